import { broken, type CheckLine, ok, warning } from "./doctor/check-line.ts";
import { type Job, runJob } from "./doctor/job-child.ts";
import { checkMachine } from "./doctor/machine.ts";
import { checkRunningNode } from "./doctor/running-node.ts";
import type { Configured, DoctorWork } from "./doctor-child.ts";
import type { SettingFlags } from "./settings/load.ts";
import { Turns } from "./turns.ts";

export type { CheckLine } from "./doctor/check-line.ts";

export interface DoctorOptions {
  readonly flags: SettingFlags;
  /** Of the p2pcache that asks. */
  readonly version: string;
  /** Rez's configuration, to be read in place of what the Rez that is found here reads. */
  readonly rezConfig?: string;
}

/**
 * Looks at everything that a node needs, and says of each thing whether it is in order. Whatever may hang is looked at
 * in processes of their own, all at once, so that the answer is there within 15 s. Nothing is changed: one file is made
 * in the cache and removed again, to try whether files can share blocks. Never rejects.
 */
export async function doctor(options: DoctorOptions): Promise<CheckLine[]> {
  const lines = machineLines();
  const { flags, version } = options;
  const first = await run({ name: "configuration", work: { kind: "configuration", flags } }, configurationMs);
  lines.push(...first.lines);
  const configured = first.answer as Configured | undefined;
  if (configured === undefined) return lines;
  if (first.lines.length === 0) {
    lines.push(ok("configuration", "it loads, and has all that a node needs"));
  }
  const { running, refusal } = configured;
  const untilMs = performance.now() + allMs;
  const turns = new Turns(jobsAtOnce);
  const reports = await Promise.all(
    jobsOf(configured, options.rezConfig).map(async (job) => {
      const end = await turns.take(new AbortController().signal);
      const leftMs = untilMs - performance.now();
      const report = leftMs < leastMs ? unseen(job) : await run(job, leftMs);
      end();
      return report.lines;
    }),
  );
  return [...lines, ...reports.flat(), ...checkRunningNode(running, { version, refusal })];
}

/** Also what this process does itself must not keep the rest from being told. */
function machineLines(): CheckLine[] {
  try {
    return [...checkMachine()];
  } catch (error) {
    return [broken("node-version", error)];
  }
}

function jobsOf({ settings, running }: Configured, rezConfig: string | undefined): DoctorJob[] {
  const network = settings.network.name;
  return [
    { name: "disk", work: { kind: "disk", settings, running } },
    ...[...settings.repositories].map(([id, path]): DoctorJob => {
      return { name: `repository ${id}`, work: { kind: "repository", id, path } };
    }),
    ...settings.origins.map((origin): DoctorJob => {
      return { name: `origin ${origin.name}`, work: { kind: "origin", origin, network } };
    }),
    { name: "network", work: { kind: "network", settings, running, rezConfig } },
  ];
}

function unseen({ name }: Job): { readonly lines: readonly CheckLine[] } {
  return { lines: [warning(name, "not looked at: too many others did not answer", "see to those first")] };
}

interface DoctorJob extends Job {
  readonly work: DoctorWork;
}

function run(job: DoctorJob, deadlineMs: number): ReturnType<typeof runJob> {
  // tsc does not rewrite the names in `new URL`: the script's ending is that of this very file.
  const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return runJob(new URL(`./doctor-child.${ending}`, import.meta.url), job, deadlineMs);
}

/** A process starts within 1 s on a busy machine, and a disk that answers does so at once. */
const configurationMs = 5_000;
const allMs = 9_000;
/** With less time left a job is not begun. */
const leastMs = 1_000;
const jobsAtOnce = 8;

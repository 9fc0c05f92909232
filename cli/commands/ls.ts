import type { Command } from "commander";
import {
  formatBytes,
  type HoldingShape,
  listOrigin,
  type OriginRelease,
  UsageError,
  variantText,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { atMounts, timeoutOf } from "../mounts.ts";
import { columns } from "../print.ts";
import { withCache } from "../session.ts";

export function addLs(parent: Command, run: Run): void {
  const command = parent
    .command("ls")
    .description("List what this machine holds or, with --origin, what is released.")
    .argument(
      "[pattern]",
      "with --origin: repository:name-version[index], with * and ?; the repository may be left out",
    )
    .option("--origin", "list the newest releases at the origins, and whether they are trusted")
    .addHelpText("after", "\nExample:\n  p2pcache ls --json=lines\n  p2pcache ls --origin 'maya-2026*'")
    .action((pattern: string | undefined, options: { origin?: boolean }, self: Command) =>
      run(self, (context) => (options.origin === true ? lsOrigin(context, pattern) : ls(context, pattern))),
    );
  addSharedFlags(command, ["origin"]);
}

async function ls(context: Context, pattern: string | undefined): Promise<void> {
  if (pattern !== undefined) throw new UsageError("a pattern is for releases", { hint: "write ls --origin <pattern>" });
  const { settings } = context.settings();
  const holdings = await withCache(context, settings, (cache) => cache.holdings());
  context.out.list("ls", "holdings", holdings.map(shown), () => columns(holdings.map(row), [1, 2]));
}

async function lsOrigin(context: Context, pattern: string | undefined): Promise<void> {
  const { settings } = context.settings();
  const releases: Listed[] = [];
  const limits = { what: "ls --origin", timeoutMs: timeoutOf(context, settings) };
  await atMounts(context, limits, async (signal) => {
    const options = { signal, ...(pattern === undefined ? {} : { pattern }) };
    // Records have up to 2 MiB: of each only what is shown is kept.
    for await (const release of listOrigin(settings, options)) releases.push(listed(release));
  });
  releases.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0));
  for (const { text, fault } of releases) if (fault !== undefined) context.out.warn(`${text}: ${fault}`);
  const objects = releases.map(({ text: _text, fault, ...rest }) => (fault === undefined ? rest : { ...rest, fault }));
  context.out.list("ls-origin", "releases", objects, () => columns(releases.map(releaseRow), [1, 2, 3]));
}

/** As CONTRACTS has it. */
function shown({ name, version, variant, payload, path, bytes, files, lastUsed, state }: HoldingShape): object {
  return { name, version: version ?? null, variant, payload, path, bytes, files, lastUsed: lastUsed ?? null, state };
}

function row({ text, bytes, files, lastUsed, state, path }: HoldingShape): string[] {
  return [text, formatBytes(bytes), `${files} files`, lastUsed?.slice(0, 16).replace("T", " ") ?? "-", state, path];
}

/** One release as JSON has it (decision 0030), and what else is said of it in plain text. */
interface Listed {
  readonly text: string;
  readonly fault: string | undefined;
  readonly origin: string;
  readonly variant: string;
  readonly repository: string | null;
  readonly name: string | null;
  readonly version: string | null;
  readonly index: number | null;
  readonly state: "released" | "withdrawn" | "unreadable";
  readonly trust: OriginRelease["trust"];
  readonly publisher: string | null;
  readonly revision: number | null;
  readonly payload: string | null;
  readonly files: number | null;
  readonly bytes: number | null;
  readonly releasedAt: string | null;
  readonly reason: string | null;
}

function listed({ origin, hash, trust, record, keyid, fault }: OriginRelease): Listed {
  const { repository = null, name = null, version = null, index = null } = record?.variant ?? {};
  const root = record === undefined || record.withdrawn ? undefined : record.root;
  return {
    text: record === undefined ? `variant:${hash}` : variantText(record.variant),
    fault,
    origin,
    variant: hash,
    ...{ repository, name, version, index },
    state: record === undefined ? "unreadable" : record.withdrawn ? "withdrawn" : "released",
    trust,
    publisher: keyid ?? null,
    revision: record?.revision ?? null,
    payload: record === undefined ? null : record.withdrawn ? record.supersedes : record.payload,
    files: root?.files ?? null,
    bytes: root?.bytes ?? null,
    releasedAt: record?.releasedAt ?? null,
    reason: record?.withdrawn ? record.reason : null,
  };
}

function releaseRow({ text, revision, files, bytes, releasedAt, state, trust, origin, reason }: Listed): string[] {
  const size = [files === null ? "-" : `${files} files`, bytes === null ? "-" : formatBytes(bytes)];
  const when = releasedAt?.slice(0, 16).replace("T", " ") ?? "-";
  const verdict = trust.replace("-", " ");
  const said = state === "withdrawn" ? `withdrawn${reason === "" ? "" : `: ${reason}`}` : "";
  return [text, revision === null ? "-" : `revision ${revision}`, ...size, when, verdict, origin, said];
}

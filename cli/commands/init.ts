import type { Command } from "commander";
import { type Initialised, initialise, UsageError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";

/** As typed; the cache, the state and the repositories are flags of every command. */
interface InitFlags {
  readonly network: string;
  readonly networkKey?: string;
  readonly originPath?: string;
  readonly originUrl?: string;
  readonly publisher?: boolean;
  readonly trust?: string[];
  readonly bootstrap?: string[];
  readonly force?: boolean;
}

export function addInit(parent: Command, run: Run): void {
  const list = (text: string, before: string[] = []) => [...before, text];
  const command = parent
    .command("init")
    .description("Write a commented configuration for this machine, make the keys that it needs, and check it.")
    .option("--network <name>", "the network's name, the same on all machines", "studio")
    .option("--network-key <file>", "the network's key, from the first machine; one is made when not given")
    .option("--origin-path <directory>", "the origin's folder, as this machine mounts it")
    .option("--origin-url <url>", "the origin's address on a web server")
    .option("--publisher", "make a publisher's key, and trust what it signs")
    .option("--trust <key>", "a publisher's public key to trust; may be repeated", list)
    .option("--bootstrap <address>", "a machine that is usually on, as a multiaddr; may be repeated", list)
    .option("--force", "write over a configuration that is there; keys stay")
    .addHelpText(
      "after",
      "\nExample:\n  p2pcache init --network studio --publisher --cache /var/cache/rez \\\n" +
        "    --repository studio=/mnt/sw/packages --origin-path /mnt/sw/p2pcache",
    )
    .action((flags: InitFlags, self: Command) => run(self, (context) => init(context, flags)));
  addSharedFlags(command);
}

async function init({ flags: shared, out }: Context, flags: InitFlags): Promise<void> {
  const done = await initialise({ ...flags, flags: shared, env: process.env });
  out.result("init", done, () => plain(done));
  for (const { key, message, hint } of done.problems) {
    if (out.json) break; // They stand in the object.
    out.warn(`${key === undefined ? "" : `${key}: `}${message}${hint === undefined ? "" : ` (${hint})`}`);
  }
  for (const line of nextSteps(done, flags)) out.note(line);
  const [first] = done.problems.filter(({ severity }) => severity === "error");
  if (first === undefined) return;
  const hint = `put it right in ${done.config}; p2pcache config check`;
  throw new UsageError(`no node would run with this configuration yet: ${first.message}`, { hint });
}

function plain({ config, networkKey, publisherKey }: Initialised): string[] {
  const lines = [`configuration: ${config}`, `network key: ${networkKey.path} (${networkKey.outcome})`];
  if (publisherKey === undefined) return lines;
  return [
    ...lines,
    `publisher's key: ${publisherKey.path} (${publisherKey.outcome})`,
    `public key: ${publisherKey.publicKey}`,
  ];
}

/** What to type on the next machine. */
function nextSteps({ networkKey, publisherKey }: Initialised, flags: InitFlags): string[] {
  const keys = [...(publisherKey?.publicKey === undefined ? [] : [publisherKey.publicKey]), ...(flags.trust ?? [])];
  const words = [`--network ${flags.network}`, "--network-key network.key", ...keys.map((key) => `--trust ${key}`)];
  return [
    `on the next machine: copy ${networkKey.path} there over a safe way, mode 0600, then`,
    `  p2pcache init ${words.join(" ")}`,
    "  with its own --cache, --repository and --origin-path; the publisher's key stays here",
    "then: p2pcache node run",
  ];
}

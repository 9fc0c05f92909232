import { userInfo } from "node:os";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import {
  beginPolicy,
  changePolicy,
  deniedPayload,
  resetTrust,
  type Settings,
  showPolicy,
  signRoot,
  type TrustChange,
  verifyOrigins,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { atMounts, timeoutOf } from "../mounts.ts";
import { refuseRunningNode } from "../session.ts";
import { plainBegun, plainReport, plainRoles, plainWritten } from "../trust-lines.ts";

interface WithKeys {
  readonly with?: string[];
}

export function addTrust(parent: Command, run: Run): void {
  const group = parent
    .command("trust")
    .description("Author and look at the network's policy: who may publish, who may join, what nobody may have.")
    .addHelpText("after", "\nExample:\n  p2pcache trust show");
  addSharedFlags(group);
  const verb: Verb = (words, description, example) => {
    const command = group
      .command(words)
      .description(description)
      .addHelpText("after", `\nExample:\n  p2pcache trust ${example}`);
    addSharedFlags(command);
    return command;
  };
  addLooks(verb, run);
  addBeginnings(verb, run);
  addPublishers(verb, run);
  addDenials(verb, run);
  addMembers(verb, run);
}

type Verb = (words: string, description: string, example: string) => Command;

function addLooks(verb: Verb, run: Run): void {
  verb("show", "Print the policy that this machine has verified.", "show --json").action((_: object, self: Command) =>
    run(self, async ({ settings, out }) => {
      const report = await showPolicy(settings().settings);
      out.result("trust-show", report, () => plainReport(report));
    }),
  );
  verb("verify", "Verify the policy that each origin has, to its last file.", "verify").action(
    (_: object, self: Command) =>
      run(self, async (context) => {
        const origins = await atOrigin(context, (settings) => verifyOrigins(settings));
        const lines = () =>
          origins.flatMap(({ origin, roles, expires }) => [
            `${origin}: in order until ${expires}`,
            ...plainRoles(roles),
          ]);
        context.out.list("trust-verify", "origins", origins, lines);
      }),
  );
  verb("reset", "Forget every policy that was seen, and trust a root from now on.", "reset --root 1.root.json")
    .option("--root <file>", "the root to trust; trust.root unless given")
    .option("--first-contact", "take the first origin's root: compare its digest with an admin's")
    .action((flags: { root?: string; firstContact?: boolean }, self: Command) =>
      run(self, async (context) => {
        await refuseRunningNode(context);
        const { settings } = context.settings();
        const { root: rootFile, firstContact = false } = flags;
        const done = await resetTrust(settings, { firstContact, ...(rootFile === undefined ? {} : { rootFile }) });
        context.out.result("trust-reset", done, () => [`trusts root ${done.version}, SHA-256 ${done.sha256}`]);
        context.out.note(`written down in ${done.log}`);
      }),
    );
}

function addBeginnings(verb: Verb, run: Run): void {
  verb(
    "init",
    "Begin the network's policy at the origin that releases go to.",
    "init --root-key ed25519:… --root-key ed25519:… --threshold 2",
  )
    .option("--root-key <key>", "a public key of the root; may be repeated. One is made here unless given", collect)
    .option("--threshold <count>", "how many of them must sign", countOf, 1)
    .option("--draft <file>", "where to write a root that others have to sign first")
    .option("--root <file>", "the root, once enough have signed it with `trust sign`")
    .action((flags: { rootKey?: string[]; threshold: number; draft?: string; root?: string }, self: Command) =>
      run(self, async (context) => {
        const { rootKey: rootKeys = [], threshold, draft, root } = flags;
        const init = {
          rootKeys,
          threshold,
          ...(draft === undefined ? {} : { draftFile: resolve(draft) }),
          ...(root === undefined ? {} : { rootFile: root }),
        };
        const begun = await atOrigin(context, (settings) => beginPolicy(settings, init));
        context.out.result("trust-init", begun, () => plainBegun(begun));
      }),
    );
  withKeys(
    verb(
      "sign",
      "Add the signatures of the keys that are here to a root that is on its way.",
      "sign root.draft.json --with ~/my-root.pem",
    ),
  )
    .argument("<file>", "the draft")
    .action((file: string, flags: WithKeys, self: Command) =>
      run(self, async ({ settings, out }) => {
        const signed = await signRoot(settings().settings, file, { keyFiles: flags.with ?? [] });
        out.result("trust-sign", signed, () => [`${signed.signatures} of ${signed.needed} signatures`]);
      }),
    );
  withKeys(
    verb("refresh", "Sign anew what comes to its end, and put into force what others signed: for cron.", "refresh"),
  )
    .option("--root <file>", "a new root, signed by its keys and those of the one before")
    .action((flags: WithKeys & { root?: string }, self: Command) =>
      run(self, (context) => {
        return change(
          context,
          { kind: "refresh", ...(flags.root === undefined ? {} : { rootFile: flags.root }) },
          flags,
        );
      }),
    );
  withKeys(verb("delegate", "Say whose keys may sign a part of the policy.", "delegate keepalive/fx ed25519:…"))
    .argument("<role>", "publishers, deny, members/<site> or keepalive/<toolset>")
    .argument("<key...>", "public keys, as `p2pcache key show` prints them")
    .option("--threshold <count>", "how many of them must sign", countOf, 1)
    .action((role: string, keys: string[], flags: WithKeys & { threshold: number }, self: Command) =>
      run(self, (context) => change(context, { kind: "delegate", role, keys, threshold: flags.threshold }, flags)),
    );
}

function addPublishers(verb: Verb, run: Run): void {
  withKeys(
    verb(
      "add-publisher",
      "Let a key release variants.",
      'add-publisher ed25519:… --names "studio:rig_*" --label Rigging',
    ),
  )
    .argument("<key>", "the public key, as `p2pcache key show` prints it")
    .option(
      "--names <pattern>",
      "which variants, as studio:maya with * and ?; may be repeated. All unless given",
      collect,
    )
    .option("--label <text>", "who it is, for people", "")
    .action((key: string, flags: WithKeys & { names?: string[]; label: string }, self: Command) =>
      run(self, (context) => {
        const { names = ["*"], label } = flags;
        return change(context, { kind: "add-publisher", key, names, label }, flags);
      }),
    );
  withKeys(
    verb(
      "retire-publisher",
      "Let a key release nothing more; what it has released stays.",
      "retire-publisher 4f1c2a90",
    ),
  )
    .argument("<who>", "the public key, or 8 digits of its key id")
    .action((who: string, flags: WithKeys, self: Command) =>
      run(self, (context) => change(context, { kind: "retire-publisher", who }, flags)),
    );
  withKeys(
    verb(
      "revoke-publisher",
      "Void all that a key has ever released: nodes remove it.",
      'revoke-publisher 4f1c2a90 --reason "laptop stolen"',
    ),
  )
    .argument("<who>", "the public key, or 8 digits of its key id")
    .option("--reason <text>", "why, for people", "")
    .action((who: string, flags: WithKeys & { reason: string }, self: Command) =>
      run(self, (context) => change(context, { kind: "revoke-publisher", who, reason: flags.reason }, flags)),
    );
}

function addDenials(verb: Verb, run: Run): void {
  withKeys(
    verb(
      "deny",
      "Let nobody have a payload: nodes remove it, and neither serve nor fetch it.",
      'deny studio:foo-1.0.0 --reason "a miner was in it"',
    ),
  )
    .argument("<handle...>", "as in fetch, or payload:<hex>")
    .option("--reason <text>", "why, for people", "")
    .option("--by <text>", "who says so; the user who runs it, unless given")
    .action((handles: string[], flags: WithKeys & { reason: string; by?: string }, self: Command) =>
      run(self, async (context) => {
        const { settings } = context.settings();
        const { reason, by = userInfo().username } = flags;
        for (const { thing } of await readHandles(context, settings, handles)) {
          const payload = await deniedPayload(settings, thing);
          await change(context, { kind: "deny", payload, by, reason }, flags);
        }
      }),
    );
  withKeys(verb("allow", "Take a denial back: nodes serve and fetch the payload again.", "allow studio:foo-1.0.0"))
    .argument("<handle...>", "as in fetch, for what it means by now, or payload:<hex>")
    .action((handles: string[], flags: WithKeys, self: Command) =>
      run(self, async (context) => {
        const { settings } = context.settings();
        for (const { thing } of await readHandles(context, settings, handles)) {
          await change(context, { kind: "allow", payload: await deniedPayload(settings, thing) }, flags);
        }
      }),
    );
}

function addMembers(verb: Verb, run: Run): void {
  withKeys(verb("add-member", "Let a machine join the network.", "add-member lyon 12D3KooW… --label farm"))
    .argument("<site>", "the site that answers for it")
    .argument("<peer>", "its peer id, as `p2pcache node id` prints it")
    .option("--label <text>", "what people call it; may be repeated", collect)
    .option("--until <time>", "until when, in ISO 8601", timeOf)
    .action((site: string, peer: string, flags: WithKeys & { label?: string[]; until?: string }, self: Command) =>
      run(self, (context) => {
        const { label: labels = [], until } = flags;
        const member = { peer, labels, ...(until === undefined ? {} : { until }) };
        return change(context, { kind: "add-member", site, member }, flags);
      }),
    );
  withKeys(verb("remove-member", "Let a machine join no more.", "remove-member lyon 12D3KooW…"))
    .argument("<site>", "the site that answers for it")
    .argument("<peer>", "its peer id")
    .action((site: string, peer: string, flags: WithKeys, self: Command) =>
      run(self, (context) => change(context, { kind: "remove-member", site, peer }, flags)),
    );
}

async function change(context: Context, what: TrustChange, flags: WithKeys): Promise<void> {
  const { out } = context;
  const keyFiles = flags.with ?? [];
  const written = await atOrigin(context, (settings) => changePolicy(settings, what, { keyFiles }));
  for (const warning of written.warnings) out.warn(warning);
  out.result(`trust-${what.kind}`, written, () => plainWritten(written));
}

/** At the origin's folder, whose mount may hang. */
async function atOrigin<Result>(context: Context, work: (settings: Settings) => Promise<Result>): Promise<Result> {
  const { settings } = context.settings();
  return await atMounts(context, { what: "trust", timeoutMs: timeoutOf(context, settings) }, () => work(settings));
}

function withKeys(command: Command): Command {
  return command.option("--with <file>", "a private key beside those in <state>/keys/policy; may be repeated", collect);
}

function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}

function countOf(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It is a number from 1 to 99.");
}

function timeOf(text: string): string {
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new InvalidArgumentError("It is a time like 2027-01-31 or 2027-01-31T18:00:00Z.");
  return new Date(ms).toISOString();
}

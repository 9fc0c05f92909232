import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Command } from "commander";
import {
  type ApiCoverage,
  type ApiList,
  type KeepChange,
  type KeepList,
  keepDifference,
  keepSigning,
  NotFoundError,
  P2pCacheError,
  parseKeepList,
  UsageError,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { atMounts, timeoutOf } from "../mounts.ts";
import { columns } from "../print.ts";
import { withCache } from "../session.ts";

export function addKeepalive(parent: Command, run: Run): void {
  const group = parent
    .command("keepalive")
    .description("Sign, publish and look at the lists of what must stay on disk.")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive sign fx.toml --key fx.pem");
  const signing = group
    .command("sign")
    .description("Sign a list as its toolset's owner, as the version after the one at the origin.")
    .argument("<list.toml>", "toolset, scope and [[keep]] tables")
    .option("--out <file>", "where it goes; beside the list, as <toolset>.keepalive.json, unless given")
    .option("--days <days>", "how long it is in force", "90")
    .option("--list-version <number>", "its version; the next one unless given")
    .option("--signer <name>", "who signs, for people; the key's file name unless given")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive sign fx.toml --key fx.pem --days 30")
    .action((path: string, options: SignOptions, self: Command) =>
      run(self, (context) => sign(context, path, options)),
    );
  const publishing = group
    .command("publish")
    .description("Put a signed list to the origin, where every machine finds it.")
    .argument("<file>", "what sign has written")
    .addHelpText(
      "after",
      "\nWhere the network's policy delegates the list, --key signs it there.\n\nExample:\n  p2pcache keepalive publish fx.keepalive.json --key fx.pem",
    )
    .action((path: string, _options: object, self: Command) => run(self, (context) => publish(context, path)));
  const showing = group
    .command("show")
    .description("Print the lists that this machine follows.")
    .argument("[toolset]", "all of them unless given")
    .option("--refresh", "ask the origins for newer ones first")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive show fx --refresh")
    .action((toolset: string | undefined, options: { refresh?: boolean }, self: Command) =>
      run(self, (context) => show(context, toolset, options.refresh === true)),
    );
  const verifying = group
    .command("verify")
    .description("Check a signed list: its form, its signature by the configured key, and that it has not expired.")
    .argument("<file>", "what sign has written")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive verify fx.keepalive.json")
    .action((path: string, _options: object, self: Command) => run(self, (context) => verify(context, path)));
  const differing = group
    .command("diff")
    .description("Print what is otherwise in a second list.")
    .argument("<a>", "a list (TOML), a signed list, or a toolset whose list this machine has")
    .argument("<b>", "another one")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive diff fx fx.toml")
    .action((a: string, b: string, _options: object, self: Command) => run(self, (context) => diff(context, a, b)));
  const covering = group
    .command("coverage")
    .description("Print what of a list this machine and its network hold, and how many copies.")
    .argument("<toolset>", "as it is called in its list")
    .addHelpText("after", "\nExample:\n  p2pcache keepalive coverage fx")
    .action((toolset: string, _options: object, self: Command) => run(self, (context) => coverage(context, toolset)));
  for (const command of [group, signing, publishing, showing, verifying, differing, covering]) addSharedFlags(command);
}

interface SignOptions {
  readonly out?: string;
  readonly days: string;
  readonly listVersion?: string;
  readonly signer?: string;
}

async function sign(context: Context, path: string, options: SignOptions): Promise<void> {
  const { settings } = context.settings();
  const signing = await keepSigning();
  const list = await signing.readKeepToml(path);
  const { keyFile } = settings.publish;
  const limits = { what: "keepalive sign", timeoutMs: timeoutOf(context, settings) };
  const target = options.out ?? `${list.toolset}.keepalive.json`;
  const before = await atMounts(context, limits, async (signal) => {
    // Who gives a version may be offline.
    const isAsked = options.listVersion === undefined && settings.origins.some(({ kind }) => kind === "folder");
    const known = isAsked ? await signing.publishedVersion(settings, list.toolset, { signal }) : 0;
    const earlier = existsSync(target) ? (await signing.readSignedList(target)).list : undefined;
    return Math.max(known, earlier?.toolset === list.toolset ? earlier.version : 0);
  });
  const { list: signed, envelope } = await signing.signKeepList({
    ...{ list, before, keyFile, wallMs: Date.now() },
    signer: options.signer ?? basename(keyFile).replace(/\.pem$/, ""),
    days: wholeNumber("--days", options.days, 3650),
    ...(options.listVersion === undefined ? {} : { version: wholeNumber("--list-version", options.listVersion, 1e9) }),
  });
  await writeFile(target, envelope, { mode: 0o644 });
  const { toolset, version, expires, signer, keep } = signed;
  context.out.result("keepalive-sign", { toolset, version, signer, expires, lines: keep.length, file: target }, () => [
    target,
  ]);
  context.out.note(
    `${toolset}, version ${version}, ${keep.length} lines, signed by ${signer}, in force until ${expires}`,
  );
}

async function publish(context: Context, path: string): Promise<void> {
  const { settings } = context.settings();
  const signing = await keepSigning();
  const file = await signing.readSignedList(path);
  const { toolset, version } = file.list;
  const limits = { what: "keepalive publish", timeoutMs: timeoutOf(context, settings) };
  const { publishKeepList } = signing;
  const done = await atMounts(context, limits, () => publishKeepList(settings, file, settings.publish.keyFile));
  const { outcome, form, isInForce, warnings } = done;
  for (const warning of warnings) context.out.warn(warning);
  if (form === "envelope" && !settings.keepalive.keys.has(toolset)) {
    context.out.warn(`keepalive.keys has no key of ${toolset}: its signature was not checked here`);
  }
  const where = form === "policy" ? " in the policy" : "";
  const waits = isInForce ? "" : "; it waits for `p2pcache trust refresh` where the online key is";
  context.out.result("keepalive-publish", { toolset, version, outcome, form, isInForce }, () => [
    `${toolset}, version ${version}, ${outcome === "published" ? "published" : "was published already"}${where}${waits}`,
  ]);
}

async function show(context: Context, toolset: string | undefined, refresh: boolean): Promise<void> {
  const { settings } = context.settings();
  const all = await withCache(context, settings, ({ keeping }) => keeping.lists({ refresh }));
  const lists = toolset === undefined ? all : all.filter((list) => list.toolset === toolset);
  if (toolset !== undefined && lists.length === 0) throw unknownToolset(toolset);
  context.out.list("keepalive-show", "lists", lists, () => lists.flatMap(listLines));
}

function listLines({ toolset, version, signer, expires, state, keep }: ApiList): string[] {
  const head = `toolset ${toolset}, version ${version}, signed by ${signer}, ${state} until ${expires}`.replace(
    "expired until",
    "expired at",
  );
  return [head, ...keep.map((line, at) => `  ${at + 1}  ${line.package}${line.prefetch ? "  prefetch" : ""}`)];
}

async function verify(context: Context, path: string): Promise<void> {
  const { settings } = context.settings();
  const signing = await keepSigning();
  const file = await signing.readSignedList(path);
  // Who owns the toolset may be asked of the policy at the origin.
  const limits = { what: "keepalive verify", timeoutMs: timeoutOf(context, settings) };
  const verified = await atMounts(context, limits, () => signing.verifyKeepList(settings, file));
  const { toolset, version, signer, expires } = verified;
  if (Date.parse(expires) <= Date.now()) {
    throw new P2pCacheError("LIST_EXPIRED", 5, `the list of ${toolset} has expired at ${expires}`, {
      hint: "sign and publish it again",
    });
  }
  context.out.result("keepalive-verify", { toolset, version, signer, expires }, () => [
    `${toolset}, version ${version}, signed by ${signer}, in force until ${expires}`,
  ]);
}

async function diff(context: Context, a: string, b: string): Promise<void> {
  const [before, after] = [await anyList(context, a), await anyList(context, b)];
  const changes = keepDifference(before, after);
  context.out.result("keepalive-diff", { changes }, () => changes.map(changeText));
}

/** A file, or the list of a toolset that this machine follows. */
async function anyList(context: Context, word: string): Promise<KeepList> {
  const signing = await keepSigning();
  if (existsSync(word)) {
    return word.endsWith(".toml") ? await signing.readKeepToml(word) : (await signing.readSignedList(word)).list;
  }
  const { settings } = context.settings();
  const lists = await withCache(context, settings, ({ keeping }) => keeping.lists({ refresh: false }));
  const list = lists.find(({ toolset }) => toolset === word);
  if (list === undefined) throw unknownToolset(word);
  return parseKeepList({ toolset: list.toolset, keep: list.keep });
}

function changeText(change: KeepChange): string {
  switch (change.kind) {
    case "added":
      return `+ ${change.rank}  ${change.package}`;
    case "removed":
      return `- ${change.rank}  ${change.package}`;
    case "moved":
      return `~ ${change.from} -> ${change.to}  ${change.package}`;
    case "prefetch":
      return `~ ${change.package}  ${change.prefetch ? "with prefetch" : "without prefetch"}`;
  }
}

async function coverage(context: Context, toolset: string): Promise<void> {
  const { settings } = context.settings();
  const found = await withCache(context, settings, ({ keeping }) => keeping.coverage(toolset));
  context.out.result("keepalive-coverage", found, () => columns(coverageRows(found), [0]));
}

function coverageRows({ lines }: ApiCoverage): string[][] {
  return lines.flatMap(({ rank, package: text, variants }) => {
    if (variants.length === 0) return [[String(rank), text, "nothing that is known is meant"]];
    return variants.map(({ handle, isHere, copies }) => {
      const others = `${copies} ${copies === 1 ? "copy" : "copies"} elsewhere`;
      return [String(rank), handle, isHere ? "here" : "not here", others];
    });
  });
}

function unknownToolset(toolset: string): NotFoundError {
  return new NotFoundError(`there is no file ${JSON.stringify(toolset)}, and no list of such a toolset is known here`, {
    hint: "keepalive.keys says which toolsets are followed; p2pcache keepalive show --refresh asks the origins",
  });
}

function wholeNumber(flag: string, text: string, max: number): number {
  const number = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (number >= 1 && number <= max) return number;
  throw new UsageError(`${flag}: ${JSON.stringify(text)} is not a whole number from 1 to ${max}`);
}

import { join, resolve } from "node:path";
import type { Command } from "commander";
import {
  generateNetworkKey,
  generatePublisherKey,
  keyId,
  listPolicyKeys,
  loadPublisherKey,
  publicKeyText,
  rotatePolicyKey,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { columns } from "../print.ts";
import { plainBegun } from "../trust-lines.ts";

export function addKey(parent: Command, run: Run): void {
  const group = parent
    .command("key")
    .description("Make and show keys.")
    .addHelpText("after", "\nExample:\n  p2pcache key gen");
  const gen = group
    .command("gen")
    .description("Make the key that signs releases, and print its public half.")
    .addHelpText("after", "\nExample:\n  p2pcache key gen --key ~/publisher.pem")
    .action((_options: object, self: Command) => run(self, generate));
  const show = group
    .command("show")
    .description("Print the public half of the key that signs releases, as trust.publishers has it.")
    .addHelpText("after", "\nExample:\n  p2pcache key show")
    .action((_options: object, self: Command) => run(self, (context) => print(context, "key-show")));
  const list = group
    .command("list")
    .description("List the keys of this machine that sign the network's policy, and what each signs.")
    .addHelpText("after", "\nExample:\n  p2pcache key list")
    .action((_options: object, self: Command) => run(self, listKeys));
  const rotate = group
    .command("rotate")
    .description("Make a new key in the place of one that signs the policy, and have the policy say so.")
    .argument("<name>", "root, targets, online, or the name of the key's file without .pem")
    .addHelpText("after", "\nExample:\n  p2pcache key rotate online")
    .action((name: string, _options: object, self: Command) => run(self, (context) => rotateKey(context, name)));
  const network = group
    .command("network")
    .description("Make a network's shared key, and print where it is.")
    .argument("[file]", "where to write it; network.key_file, or keys/network.key in the state, when not given")
    .addHelpText("after", "\nExample:\n  p2pcache key network /etc/p2pcache/network.key")
    .action((file: string | undefined, _options: object, self: Command) =>
      run(self, (context) => makeNetworkKey(context, file)),
    );
  for (const command of [group, gen, show, list, rotate, network]) addSharedFlags(command);
}

async function generate(context: Context): Promise<void> {
  await generatePublisherKey(context.settings().settings.publish.keyFile);
  await print(context, "key-gen");
}

async function print({ settings, out }: Context, verb: string): Promise<void> {
  const path = settings().settings.publish.keyFile;
  const key = await loadPublisherKey(path);
  const text = publicKeyText(key);
  out.result(verb, { path, publicKey: text, keyid: keyId(key.rawPublic) }, () => [text]);
}

async function listKeys({ settings, out }: Context): Promise<void> {
  const keys = await listPolicyKeys(settings().settings);
  out.list("key-list", "keys", keys, () =>
    columns(keys.map(({ name, keyid, path, roles }) => [name, keyid.slice(0, 16), path, roles.join(" ")])),
  );
}

async function rotateKey({ settings, out }: Context, name: string): Promise<void> {
  const rotated = await rotatePolicyKey(settings().settings, name);
  out.result("key-rotate", rotated, () => plainBegun(rotated));
}

async function makeNetworkKey({ settings, out }: Context, file: string | undefined): Promise<void> {
  const { network, node } = settings().settings;
  const path = file === undefined ? (network.keyFile ?? join(node.state, "keys", "network.key")) : resolve(file);
  await generateNetworkKey(path);
  out.result("key-network", { path }, () => [path]);
  if (network.keyFile !== path) out.note(`to use it, write key_file = ${JSON.stringify(path)} under [network]`);
}

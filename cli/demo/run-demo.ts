import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  formatBytes,
  formatDuration,
  generateNetworkKey,
  generatePublisherKey,
  loadSettings,
  type NamedThing,
  publicKeyText,
  publish,
  type Settings,
  TreeDamagedError,
  type Variant,
  variantText,
} from "../../node/index.ts";
import type { Context } from "../context.ts";
import { ProgressReport } from "../progress.ts";
import { compareTrees } from "./compare-trees.ts";
import { configText, type DemoNetwork, DemoNode, type DemoResult, environment } from "./demo-node.ts";
import { howToLook, tableOf } from "./demo-report.ts";
import { type SourceTree, sourceTrees } from "./source-trees.ts";
import { removeTree, Workspace } from "./workspace.ts";

/**
 * Does the main job on real software: publishes two trees, lets one node fetch them from the origin and four others at
 * once, and compares every placed tree with its source.
 * @throws {TreeDamagedError} when any tree differs.
 */
export async function runDemo(context: Context, { keep }: { readonly keep: boolean }): Promise<void> {
  const { out, signal } = context;
  await using workspace = Workspace.open();
  const linked = join(workspace.path, "source");
  const trees = await sourceTrees(linked, signal);
  const { network, settings } = await makeNetwork(workspace);
  let payloadBytes = 0;
  for (const tree of trees) payloadBytes += await publishTree(context, settings, tree);

  const nodes = await startNodes(network, { lingerSeconds: keep ? undefined : lingerSeconds, signal });
  const results = await fetchAll(context, nodes, trees.map(thingOf));
  out.note("comparing every tree with its source");
  const differences: string[] = [];
  for (const [at, tree] of trees.entries()) {
    const copies = results.map((result) => result.trees[at]!);
    differences.push(...(await compareTrees(tree.path, copies, signal)));
  }

  const originBytes = results.reduce((total, { origin }) => total + origin, 0);
  const rows = results.map(({ path: _path, trees: _trees, ...row }) => row);
  const treesEqual = differences.length === 0;
  const report = { payloadBytes, originBytes, nodes: rows, treesEqual, ...(keep ? { directory: workspace.path } : {}) };
  out.result("demo", report, () => tableOf(out, payloadBytes, results, treesEqual));
  if (keep) {
    removeTree(linked);
    workspace.leave();
    for (const line of howToLook(workspace.path, nodes)) out.note(line);
  }
  if (!treesEqual || !results.every(({ verified }) => verified)) throw differ(differences);
}

const nodeNames = ["node-1", "node-2", "node-3", "node-4", "node-5"];

async function makeNetwork(workspace: Workspace): Promise<{ network: DemoNetwork; settings: Settings }> {
  const at = (name: string) => join(workspace.path, name);
  const publisherKeyPath = at("publisher.pem");
  const key = await generatePublisherKey(publisherKeyPath);
  await generateNetworkKey(at("network.key"));
  mkdirSync(at("repository"), { mode: 0o755 });
  mkdirSync(at("origin"), { mode: 0o755 });
  const network: DemoNetwork = {
    workspace,
    repositoryPath: at("repository"),
    originPath: at("origin"),
    networkKeyPath: at("network.key"),
    publisher: publicKeyText(key),
  };
  const config = at("publisher.toml");
  writeFileSync(config, configText(network, "publisher", at("publisher"), []));
  const { settings } = loadSettings({ flags: { config, key: publisherKeyPath }, env: environment() });
  return { network, settings };
}

/** @returns the bytes of its files. */
async function publishTree({ out, signal }: Context, settings: Settings, tree: SourceTree): Promise<number> {
  const startedMs = performance.now();
  const variant = variantOf(tree);
  const what = variantText(variant);
  out.note(`publishing ${what} from ${tree.path}`);
  using report = new ProgressReport(out);
  const published = await publish(settings, {
    variant,
    treePath: tree.path,
    requires: [],
    // After `umask 077` nobody else may read the checkout, and nobody else will see these caches.
    allowPrivate: true,
    onProgress: (doneBytes, files) =>
      report.update({ what, doneBytes, totalBytes: undefined, detail: `${files} files` }),
    signal,
  });
  const { files, bytes, chunks } = published;
  const time = formatDuration(performance.now() - startedMs);
  out.note(`  ${files} files, ${formatBytes(bytes)}, ${chunks} chunks, in ${time}`);
  return bytes;
}

/** Each is told of those that run already. */
async function startNodes(
  network: DemoNetwork,
  options: { readonly lingerSeconds: number | undefined; readonly signal: AbortSignal },
): Promise<DemoNode[]> {
  const nodes: DemoNode[] = [];
  for (const name of nodeNames) {
    const bootstrap = nodes.flatMap(({ addresses }) => addresses);
    nodes.push(await DemoNode.start(network, name, bootstrap, options));
  }
  return nodes;
}

async function fetchAll(
  { out, signal }: Context,
  nodes: readonly DemoNode[],
  things: readonly NamedThing[],
): Promise<DemoResult[]> {
  const [first, ...others] = nodes;
  out.note(`${first!.name} fetches from the origin`);
  const fetched = [await first!.fetch(things, signal)];
  out.note(`${others.length} others fetch at once`);
  fetched.push(...(await Promise.all(others.map((node) => node.fetch(things, signal)))));
  out.note("verifying what they hold");
  const verified = await Promise.all(nodes.map((node) => node.verify(things, signal)));
  return fetched.map((result, at) => ({ ...result, verified: verified[at]! }));
}

function variantOf({ name, version }: SourceTree): Variant {
  return { kind: "rez", repository: "demo", name, version };
}

function thingOf(tree: SourceTree): NamedThing {
  return { kind: "variant", variant: variantOf(tree) };
}

function differ(differences: readonly string[]): TreeDamagedError {
  const [first = "a node found damage in what it holds"] = differences;
  const more = differences.length > 1 ? `, and ${differences.length - 1} more` : "";
  return new TreeDamagedError(`a placed tree is not its source: ${first}${more}`, { details: { differences } });
}

/** Longer than a demo, also on a slow machine. */
const lingerSeconds = 600;

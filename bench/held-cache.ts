import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { keyId, loadPublisherKey, sign } from "../node/keys.ts";
import { Catalogue, type CatalogueEntry } from "../node/store/catalogue.ts";
import { indexText } from "../node/store/rez-index.ts";
import { sealBytes } from "../node/store/sealed.ts";
import { storeSegment } from "../node/store/segment-objects.ts";
import { encodeEnvelope, encodeRecord, signedBytes } from "../protocol/record.ts";
import { rezCacheDirectory, rezHandle } from "../protocol/rez-handle.ts";
import { type Variant, variantHash } from "../protocol/variant.ts";
import { engine, type Payload, release } from "../test/support/payloads.ts";
import { kill, type RunningNode, type Studio } from "../test/support/studio.ts";

/**
 * Makes a machine of a studio hold as many variants as there are names, as a node would have left them: index file, tree
 * of one file, its segment, signed record, catalogue. The first is published, and fetched by the node that `start`
 * starts; the others share a thousand trees.
 */
export async function fillCache(
  studio: Studio,
  machine: string,
  variants: readonly Variant[],
  start: () => Promise<RunningNode>,
): Promise<void> {
  const [first, ...others] = variants as [Variant, ...Variant[]];
  const source = join(studio.path, "source");
  mkdirSync(source);
  writeFileSync(join(source, "package.py"), "name = 'package'\n");
  await studio.publish(first, source);
  const node = await start();
  const [fetched] = await node.client.fetch({ things: [{ kind: "variant", variant: first }] }, () => undefined, {});
  if (fetched?.reason !== undefined) throw new Error(fetched.reason);
  await kill(node, "SIGTERM");
  const cache = join(studio.path, machine, "cache");
  const objects = join(cache, ".sys/p2pcache/objects");
  const key = await loadPublisherKey(join(studio.path, "publisher.pem"));
  const trees: Payload[] = [];
  for (let i = 0; i < treesMax; i++) {
    writeFileSync(join(source, "package.py"), `name = 'package_${i}'\n`);
    utimesSync(join(source, "package.py"), fileTime, fileTime);
    const tree = await release(source);
    trees.push(tree);
    const { hash } = tree.record.root.segments[0]!;
    storeSegment(objects, hash, tree.items.get(hash)!, engine.hash, "bench");
  }
  await using catalogue = await Catalogue.open(join(studio.path, machine, "state/index"));
  const { unsureSinceBoot, ...entry } = catalogue.get(variantHash(first, engine.hash)) as CatalogueEntry;
  await catalogue.put(entry);
  for (const [i, variant] of others.entries()) {
    const { root, payload, ...record } = trees[i % treesMax]!.record;
    const hash = variantHash(variant, engine.hash);
    const body = encodeRecord({ ...record, variant }, root);
    const signatures = [{ keyid: keyId(key.rawPublic), sig: sign(key, signedBytes(body)) }];
    mkdirSync(join(objects, hash.slice(0, 2)), { recursive: true });
    writeFileSync(
      join(objects, hash.slice(0, 2), `${hash}.dsse.json`),
      sealBytes(encodeEnvelope({ body, signatures })),
    );
    const handle = rezHandle(variant, join(studio.path, "packages"));
    const directory = join(cache, rezCacheDirectory(handle, sha1));
    const file = join(directory, "a", "package.py");
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `name = 'package_${i % treesMax}'\n`, { mode: 0o444 });
    utimesSync(file, fileTime, fileTime);
    chmodSync(dirname(file), 0o555);
    const index = indexText(handle, record.attributes.variantRequires, { payload, variant: hash });
    writeFileSync(join(directory, "a.json"), index, { mode: 0o666 });
    const { bytes, files } = root;
    await catalogue.put({ ...entry, variant, hash, payload, revision: 0, directory, suffix: "a", bytes, files });
  }
}

const treesMax = 1_000;
/** Of each file, in seconds since 1970. */
const fileTime = 1_700_000_000;

function sha1(bytes: Uint8Array): Uint8Array {
  return createHash("sha1").update(bytes).digest();
}

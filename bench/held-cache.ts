import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { openHashEngine } from "../node/index.ts";
import { loadPublisherKey, sign } from "../node/keys.ts";
import { Catalogue, type CatalogueEntry } from "../node/store/catalogue.ts";
import { indexText } from "../node/store/rez-index.ts";
import { sealBytes } from "../node/store/sealed.ts";
import { decodeEnvelope, decodeRelease, encodeEnvelope, encodeRecord, signedBytes } from "../protocol/record.ts";
import { rezCacheDirectory, rezHandle } from "../protocol/rez-handle.ts";
import { type Variant, variantHash } from "../protocol/variant.ts";
import { kill, type RunningNode, type Studio } from "../test/support/studio.ts";

/**
 * Makes a machine of a studio hold as many variants as there are names, the first of them published and fetched by
 * `start`, the others with that one's tree, as a node would have left them: index file, tree, signed record, catalogue.
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
  const hash = openHashEngine().hash;
  const key = await loadPublisherKey(join(studio.path, "publisher.pem"));
  const firstHash = variantHash(first, hash);
  const objects = join(studio.path, machine, "cache/.sys/p2pcache/objects");
  const recordOf = (variant: string) => join(objects, variant.slice(0, 2), `${variant}.dsse.json`);
  const kept = readFileSync(recordOf(firstHash));
  const released = decodeEnvelope(kept.subarray(0, kept.lastIndexOf("}") + 1));
  const { root, payload, ...record } = decodeRelease(released.body, hash);
  await using catalogue = await Catalogue.open(join(studio.path, machine, "state/index"));
  const { unsureSinceBoot, ...entry } = catalogue.get(firstHash) as CatalogueEntry;
  await catalogue.put(entry);
  for (const variant of others) {
    const name = variantHash(variant, hash);
    const body = encodeRecord({ ...record, variant }, root);
    const signatures = [{ keyid: released.signatures[0]!.keyid, sig: sign(key, signedBytes(body)) }];
    mkdirSync(dirname(recordOf(name)), { recursive: true });
    writeFileSync(recordOf(name), sealBytes(encodeEnvelope({ body, signatures })));
    const handle = rezHandle(variant, join(studio.path, "packages"));
    const directory = join(studio.path, machine, "cache", rezCacheDirectory(handle, sha1));
    mkdirSync(join(directory, "a"), { recursive: true });
    writeFileSync(join(directory, "a", "package.py"), "name = 'package'\n", { mode: 0o444 });
    writeFileSync(join(directory, "a.json"), indexText(handle, undefined, { payload, variant: name }), { mode: 0o666 });
    await catalogue.put({ ...entry, variant, hash: name, directory, suffix: "a" });
  }
}

function sha1(bytes: Uint8Array): Uint8Array {
  return createHash("sha1").update(bytes).digest();
}

import type { VariantHash } from "../../protocol/hash.ts";
import type { RezHandle } from "../../protocol/rez-handle.ts";
import { writeDurably } from "../durable-file.ts";
import { intentPath, type RecoveryPlace } from "./recovery.ts";
import type { PlaceRequest, PlaceResult } from "./rez-cache.ts";
import type { StagedPayload } from "./staged-payload.ts";

interface Placing extends Pick<PlaceRequest, "replaces"> {
  readonly hash: VariantHash;
  readonly handle: RezHandle;
  readonly signal?: AbortSignal | undefined;
}

/** Moves a tree in beside an earlier revision, or one that the catalogue does not know, which then goes. */
export function placeTree(place: RecoveryPlace, staged: StagedPayload, placing: Placing): Promise<PlaceResult> {
  const { hash, handle, signal, ...more } = placing;
  const { record, treePath: tree } = staged;
  const placement = {
    handle,
    variantRequires: record.attributes.variantRequires,
    p2pcache: { payload: record.payload, variant: hash },
    indexMode: place.indexMode,
  };
  return place.rez.place({
    ...{ ...placement, tree, ...more },
    ...(signal === undefined ? {} : { signal }),
    onIntent: (spot) => writeDurably(intentPath(staged.path), JSON.stringify({ hash, spot, placement })),
  });
}

import type { HeldFacts, Hold, PlanLine } from "./eviction.ts";
import { namingText } from "./keep-index.ts";

/** Why a variant stays or goes, in one line: `goes: last used 41 days ago, 12 replicas`. */
export function reasonText({ goes, reason, held }: PlanLine, wallMs: number): string {
  const use = useText(held.lastUsedMs, wallMs);
  const facts = `${use}, ${held.replicas} ${held.replicas === 1 ? "replica" : "replicas"}`;
  switch (reason.kind) {
    case "held":
      return `kept: ${holdText(reason.hold)}${listText(held)}`;
    case "recent":
      return `kept: ${use}, which is within min_idle${listText(held)}`;
    case "aged":
      return `goes: ${facts}, longer than max_age`;
    case "listed":
      return goes ? `goes: ${namingText(reason.naming)}, but room is needed` : `kept: ${namingText(reason.naming)}`;
    case "beyondPinned":
      return `${goes ? "goes" : "kept"}: ${namingText(reason.naming)}, but beyond pinned_bytes_max; ${facts}`;
    case "unlisted": {
      const list = reason.expired === undefined ? "" : `${namingText(reason.expired)}; `;
      return goes ? `goes: ${list}${facts}` : `kept: ${list}no room is needed, ${facts}`;
    }
  }
}

/** It would stay for that, too. */
function listText({ naming }: HeldFacts): string {
  return naming === undefined || naming.isExpired ? "" : `; ${namingText(naming)}`;
}

function holdText(hold: Hold): string {
  switch (hold.kind) {
    case "leased":
      return `leased by ${hold.by}`;
    case "pinned":
      return "pinned on this machine";
    case "busy":
      return "being fetched just now";
    case "running":
      return `${hold.by} runs from it`;
  }
}

function useText(lastUsedMs: number | undefined, wallMs: number): string {
  if (lastUsedMs === undefined) return "last use unknown";
  const minutes = Math.max(0, Math.floor((wallMs - lastUsedMs) / 60_000));
  if (minutes < 2) return "used just now";
  if (minutes < 120) return `last used ${minutes} minutes ago`;
  if (minutes < 48 * 60) return `last used ${Math.floor(minutes / 60)} hours ago`;
  return `last used ${Math.floor(minutes / 1440)} days ago`;
}

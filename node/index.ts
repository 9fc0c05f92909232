export * from "../protocol/errors.ts";
export { type NamedThing, parseHandleText, parseRxt } from "../protocol/handle-text.ts";
export { type KeepList, parseKeepList } from "../protocol/keep-alive.ts";
export { type KeepChange, keepDifference } from "../protocol/keep-difference.ts";
export { parseVariant, type Variant, variantText } from "../protocol/variant.ts";
export type { CheckLine } from "./doctor.ts";
/** What benches measure. */
export { Evictor } from "./evictor.ts";
export type { FetchResult } from "./fetcher.ts";
export { openHashEngine } from "./hasher.ts";
export {
  type ApiFsck,
  type ApiRemoval,
  type ApiVariant,
  type ErrorShape,
  errorShape,
  type FsckWish,
  type HoldingShape,
} from "./http/api-types.ts";
export { type FetchCall, NodeClient, type Progress, type VerifyResult } from "./http/client.ts";
export type { HeldLease } from "./http/keeping-client.ts";
export type { ApiCollected, ApiCoverage, ApiKept, ApiList } from "./http/keeping-types.ts";
export { removeAll } from "./http/removals.ts";
export type { Initialised } from "./init.ts";
export {
  generateNetworkKey,
  generatePublisherKey,
  keyId,
  loadPublisherKey,
  publicKeyText,
} from "./keys.ts";
export { type Log, type LogFormat, type LogLevel, openLog } from "./log.ts";
export type { CacheNode } from "./node.ts";
export type { NodeStatus } from "./node-status.ts";
export {
  beginPolicy,
  changePolicy,
  collectOrigin,
  deniedPayload,
  doctor,
  initialise,
  keepSigning,
  listOrigin,
  listPolicyKeys,
  nodeId,
  openNode,
  publish,
  resetTrust,
  rotatePolicyKey,
  runNode,
  showPolicy,
  signRoot,
  unpublish,
  verifyOrigins,
} from "./open.ts";
export type { OriginGc } from "./origin-gc.ts";
export type { OriginRelease } from "./origin-releases.ts";
export { unusable } from "./path-guard.ts";
export type { Published } from "./payloads/publisher.ts";
export type { Withdrawn } from "./payloads/withdrawer.ts";
export type { PublishRequest } from "./publish.ts";
export { realRepositories } from "./repositories.ts";
export type { ServiceOptions } from "./service.ts";
export { type LoadedSettings, loadSettings, type SettingFlags } from "./settings/load.ts";
export { settingsReference } from "./settings/reference.ts";
export type { Settings } from "./settings/schema.ts";
export { checkSettings, showSettings, showSettingsJson } from "./settings/show.ts";
export { formatBytes, formatDuration, formatRate, parseDuration } from "./settings/units.ts";
export { processMark } from "./store/owner.ts";
export type { WrittenPolicy } from "./trust/policy-author.ts";
export type { BegunPolicy, TrustChange } from "./trust-admin.ts";
export type { PolicyReport } from "./trust-look.ts";

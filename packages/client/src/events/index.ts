/** For whoever receives the events mini-chat posts: verify, read, take each once. Needs Node, nothing else. */
// biome-ignore lint/performance/noBarrelFile: the entry point of the package export
export { createDeduplicator, type Deduplicator, memoryKeys, type SeenKeys } from "./deduplicate.ts";
export {
  type AuditEvent,
  EventError,
  parseAuditEvent,
  parseUsageEvent,
  type UsageEvent,
  type UsageTokens,
} from "./event.ts";
export { type SignatureFailure, signatureHeader, verifySignature } from "./signature.ts";

/** For whoever receives the events mini-chat posts: verify, read, take each once. Needs Node, nothing else. */
// biome-ignore lint/performance/noBarrelFile: the entry point of the package export
export {
  createDeduplicator,
  type Deduplicator,
  type MemoryKeysOptions,
  memoryKeys,
  type SeenKeys,
} from "./deduplicate.ts";
export { EventError, eventKey, parseAuditEvent, parseUsageEvent } from "./event.ts";
export { type SignatureFailure, type SignedRequest, signatureHeader, verifySignature } from "./signature.ts";
export type {
  AuditEvent,
  DeleteAuditEvent,
  ErasureAuditEvent,
  MutationAuditEvent,
  TurnAuditEvent,
  UsageEvent,
  UsageTokens,
} from "./types.ts";

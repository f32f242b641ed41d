/** `@mini-chat/client`: chats, messages and streamed answers, typed; recovers from broken streams by itself. */
export type { Attachments } from "./attachments.ts";
export { type Chats, type Client, createClient, type Models, type Reactions } from "./client.ts";
export {
  ApiError,
  type ClientError,
  type CodeOf,
  ConnectionError,
  type ErrorCode,
  hasCode,
  isClientError,
  isInProgress,
} from "./errors.ts";
export type * from "./generated/api.ts";
export type { CallOptions, ClientOptions } from "./http.ts";
export type { Listing } from "./listing.ts";
export type * from "./model.ts";
export type { IdentifiedTurn, Turn } from "./turn.ts";
export type { MutationOptions, RetryOptions, Turns } from "./turns.ts";
export type { UploadOptions, UploadProgress } from "./upload.ts";

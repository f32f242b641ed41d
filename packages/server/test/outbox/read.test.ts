import { describe, expect, it } from "vitest";
import { readAttachmentCleanup, readChatCleanup } from "../../src/outbox/cleanup-event.ts";
import type {
  AttachmentCleanupEvent,
  ChatCleanupEvent,
  DocSummaryTaskPayload,
  ThreadSummaryTaskPayload,
} from "../../src/outbox/events.ts";
import { readDocSummaryTask, readThreadSummaryTask } from "../../src/outbox/summary-task.ts";
import { unreadableVerdict } from "../../src/outbox/unreadable.ts";
import { UnknownEventError, UnreadableEventError } from "../../src/outbox/wire.ts";
import { messageOf } from "./support.ts";

const ids = {
  tenant_id: "11111111-1111-4111-8111-111111111111",
  chat_id: "01890000-0000-7000-8000-000000000003",
};
const attachmentId = "01890000-0000-7000-8000-000000000004";
const requestId = "66666666-6666-4666-8666-666666666666";

const attachment: AttachmentCleanupEvent = {
  event_type: "attachment_deleted",
  ...ids,
  attachment_id: attachmentId,
  provider_file_id: "file-1",
  vector_store_id: null,
  storage_backend: "openai",
  attachment_kind: "document",
  deleted_at: "2026-03-01T10:15:31.204Z",
};
const chat: ChatCleanupEvent = {
  reason: "chat_soft_delete",
  ...ids,
  system_request_id: requestId,
  chat_deleted_at: "2026-03-01T10:15:31.204Z",
};
const summary: ThreadSummaryTaskPayload = {
  ...ids,
  system_request_id: requestId,
  system_task_type: "thread_summary_update",
  base_frontier_created_at: "2026-03-01T10:15:31.204518Z",
  base_frontier_message_id: attachmentId,
  frozen_target_created_at: "2026-03-01T10:16:00.000001Z",
  frozen_target_message_id: requestId,
};
const document: DocSummaryTaskPayload = {
  ...ids,
  attachment_id: attachmentId,
  system_request_id: requestId,
  system_task_type: "doc_summary_generation",
};

const readers: [string, (payload: string) => object, object][] = [
  ["attachment cleanup", readAttachmentCleanup, attachment],
  ["chat cleanup", readChatCleanup, chat],
  ["thread summary", readThreadSummaryTask, summary],
  ["document summary", readDocSummaryTask, document],
];

describe.each(readers)("reader of a payload of %s (outbox.md §4)", (_name, read, event) => {
  it("gives back what was written, timestamps to the last digit, and ignores unknown keys", () => {
    expect(read(JSON.stringify({ ...event, added_later: 1 }))).toEqual(event);
  });

  it.each([
    ["a missing key", JSON.stringify({ ...event, tenant_id: undefined })],
    ["a wrong type", JSON.stringify({ ...event, chat_id: 5 })],
    ["text that is not JSON", "planted"],
    ["JSON that is no object", "[]"],
  ])("refuses %s for good, and repeats nothing of it", (_what, payload) => {
    expect(() => read(payload)).toThrow(UnreadableEventError);
    expect(() => read(payload)).not.toThrow("planted");
  });
});

describe("payloads of a newer program (outbox.md §13)", () => {
  it.each([
    ["event_type", () => readAttachmentCleanup(JSON.stringify({ ...attachment, event_type: "moved" }))],
    ["reason", () => readChatCleanup(JSON.stringify({ ...chat, reason: "legal_hold" }))],
  ])("are told by an unknown %s", (_name, read) => {
    expect(read).toThrow(UnknownEventError);
  });

  it("get a verdict that counts no attempt until they are ten minutes old", () => {
    const error = new UnknownEventError("unknown reason legal_hold");
    const verdictAt = (ageMs: number) => unreadableVerdict(error, messageOf("{}", { ageMs }));
    expect(verdictAt(599_999)).toEqual({
      kind: "retry",
      error: "unknown reason legal_hold",
      afterMs: 10_000,
      counted: false,
    });
    expect(verdictAt(600_000)).toEqual({ kind: "reject", reason: "unknown reason legal_hold" });
  });

  it("are not what any other payload that cannot be read is taken for", () => {
    const error = new UnreadableEventError("not JSON");
    expect(unreadableVerdict(error, messageOf("{}", { ageMs: 0 }))).toEqual({
      kind: "reject",
      reason: "deserialization failed: not JSON",
    });
  });
});

describe("payload of a thread summary (outbox.md §4.6)", () => {
  it("has both base fields or none", () => {
    const none = { ...summary, base_frontier_created_at: null, base_frontier_message_id: null };
    expect(readThreadSummaryTask(JSON.stringify(none))).toEqual(none);
    const half = JSON.stringify({ ...summary, base_frontier_message_id: null });
    expect(() => readThreadSummaryTask(half)).toThrow(UnreadableEventError);
  });
});

describe("payload of an attachment cleanup (outbox.md §4.2)", () => {
  it("needs no time of deletion", () => {
    const { deleted_at: _, ...rest } = attachment;
    expect(readAttachmentCleanup(JSON.stringify(rest))).toMatchObject(rest);
  });
});

import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Authorizer } from "../auth/authorize.ts";
import { enterChat } from "../chats/open.ts";
import { noContent, problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { uuid } from "../http/validate.ts";
import { type Attachment, attachmentNotFound, attachmentSchema, attachmentView } from "./attachment.ts";
import { refusedForm } from "./form.ts";
import { bodyLimit } from "./limits.ts";
import { removeAttachment } from "./remove.ts";
import { noChatTitle } from "./reserve.ts";
import type { RunningUploads } from "./running.ts";
import { type UploadDeps, uploadAttachment } from "./upload.ts";
import { findAttachment } from "./upload-store.ts";

export interface AttachmentRoutesDeps extends UploadDeps {
  readonly authorizer: Authorizer;
  readonly uploads: RunningUploads;
  /** `{prefix}/v1`, for `Location`. */
  readonly apiRoot: string;
  /** For the request up to the first bytes of the file; a client that waits must not keep a permit. */
  readonly beginTimeoutMs: number;
}

const form = z
  .object({ file: z.string().meta({ contentMediaType: "application/octet-stream" }) })
  .meta({ id: "AttachmentUpload" });

const attachmentPath = z.object({ id: uuid(), attachment_id: uuid() });

/** The attachments of a chat (attachments.md §2). */
export const registerAttachmentRoutes = (api: ApiServer, deps: AttachmentRoutesDeps): void => {
  registerUpload(api, deps);
  const inChat = { notFound: noChatTitle };
  api.get(
    "/chats/:id/attachments/:attachment_id",
    {
      schema: {
        operationId: "getAttachment",
        tags: ["attachments"],
        summary: "Read an attachment",
        params: attachmentPath,
        response: {
          200: attachmentSchema,
          ...problems("chat_not_found", "attachment_not_found", "forbidden"),
        },
      },
    },
    async ({ actor, params: { id: chatId, attachment_id: id } }) => {
      await enterChat(deps, actor, chatId, "read_attachment", inChat);
      const attachment = await findAttachment(deps.db, { tenantId: actor.tenantId, chatId, id });
      if (attachment === null) throw attachmentNotFound();
      return attachmentView(attachment);
    },
  );
  api.delete(
    "/chats/:id/attachments/:attachment_id",
    {
      schema: {
        operationId: "deleteAttachment",
        tags: ["attachments"],
        summary: "Delete an attachment no message refers to",
        params: attachmentPath,
        response: {
          204: noContent(),
          ...problems("chat_not_found", "attachment_not_found", "forbidden", "attachment_locked"),
        },
      },
    },
    async ({ actor, params: { id: chatId, attachment_id: id } }, reply) => {
      await enterChat(deps, actor, chatId, "delete_attachment", inChat);
      await removeAttachment(deps, actor, chatId, id);
      return reply.code(204).send();
    },
  );
};

const registerUpload = (api: ApiServer, deps: AttachmentRoutesDeps): void => {
  api.post(
    "/chats/:id/attachments",
    {
      bodyLimit: bodyLimit(deps.limits),
      config: { rawBody: true, form, refuseWhileDraining: true },
      schema: {
        operationId: "uploadAttachment",
        tags: ["attachments"],
        summary: "Upload a file",
        params: z.object({ id: uuid() }),
        response: {
          201: attachmentSchema,
          ...problems(
            "chat_not_found",
            "attachment_not_found",
            "forbidden",
            "images_disabled",
            "unsupported_media",
            "document_limit_exceeded",
            "storage_limit_exceeded",
            "provider_mismatch",
            "file_too_large",
            "unsupported_file_type",
            "quota_exceeded",
            "provider_rejected",
            "provider_unavailable",
            "response_parse_error",
            "configuration_error",
            "vector_store_race",
            "vector_store_timeout",
            "upload_concurrency_limit",
          ),
        },
      },
    },
    async (request, reply) => {
      try {
        const chatId = request.params.id;
        const attachment = await upload(deps, request, reply, chatId);
        return await reply
          .code(201)
          .header("location", `${deps.apiRoot}/chats/${chatId}/attachments/${attachment.id}`)
          .send(attachmentView(attachment));
      } catch (error) {
        // The rest of the body is not worth reading: the client is told, and the connection closed.
        if (!request.raw.complete) reply.header("connection", "close");
        throw error;
      }
    },
  );
};

/** Until the answer has been sent the client may leave and the process stop: both end the upload. */
const upload = async (
  deps: AttachmentRoutesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  chatId: string,
): Promise<Attachment> => {
  const { actor, raw } = request;
  const { controller, end } = deps.uploads.begin();
  const abort = (detail: string): void => controller.abort(refusedForm("Multipart Error", detail));
  const onClose = (): void => abort("The client has left.");
  const timer = setTimeout(abort, deps.beginTimeoutMs, "The file did not come in time.");
  reply.raw.once("close", onClose);
  try {
    const { model } = await enterChat(deps, actor, chatId, "upload_attachment", { notFound: noChatTitle });
    return await uploadAttachment(deps, actor, {
      chatId,
      model,
      raw,
      // From the raw headers: the framework, which has no parser for it, is not shown the media type.
      contentType: raw.headersDistinct["content-type"]?.[0],
      correlationId: request.id,
      signal: controller.signal,
      begun: () => clearTimeout(timer),
    });
  } finally {
    clearTimeout(timer);
    reply.raw.off("close", onClose);
    end();
  }
};

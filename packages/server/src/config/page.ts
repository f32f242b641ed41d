import { z } from "zod";
import { nonBlank } from "./fields.ts";

const isOrigin = (text: string): boolean => {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return /^https?:$/.test(url.protocol) && url.origin === text;
};

/** The page served at `{url_prefix}/` (api.md §9); `server.web_enabled` is its switch. */
export const pageSection = z
  .strictObject({
    title: nonBlank().max(60).default("mini-chat"),
    /** Sites that may show the page in a frame, and hand it a token; empty = none. */
    frame_ancestors: z
      .array(
        z
          .string()
          .refine(
            (text) => text === "self" || isOrigin(text),
            "must be `self` or an origin, for example https://portal.example",
          ),
      )
      .default([]),
  })
  .prefault({});

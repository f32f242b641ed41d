import { z } from "zod";
import { uuidOut } from "../http/validate.ts";

/** A `Citation` as answers and stream events carry it (turns.md §5.2). */
export const citationSchema = z.object({
  source: z.enum(["file", "web"]),
  title: z.string(),
  url: z.string().optional(),
  attachment_id: uuidOut().optional(),
  snippet: z.string(),
  score: z.number().optional(),
  span: z.object({ start: z.int(), end: z.int() }).optional(),
  position: z.string().optional(),
});

import type { ListTable } from "../../src/http/odata.ts";

/** A list shaped like that of chats, over a table of its own. */
export const rowsTable: ListTable = {
  name: "rows",
  fields: {
    updated_at: { type: "datetime", sql: "r.updated_at" },
    id: { type: "uuid", sql: "r.id" },
    title: { type: "string", sql: "r.title", orderSql: "coalesce(r.title, '')" },
  },
  defaultOrder: [{ field: "updated_at", direction: "desc" }],
  selectable: ["id", "title", "model", "updated_at"],
};

/** Condition on a row of a chat under this alias: its chat is not deleted. */
export const ofLiveChat = (alias: "a" | "s"): string => `exists (
        select 1
        from chats c
        where c.id = ${alias}.chat_id
          and c.tenant_id = ${alias}.tenant_id
          and c.deleted_at is null
      )`;

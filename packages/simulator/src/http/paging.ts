interface Listed {
  readonly id: string;
  readonly createdAt: number;
}

const MAX_LIMIT = 10_000;

/** One page of a list as OpenAI serves it: `limit`, `after` and `order` (newest first unless `asc`). */
export const page = <T extends Listed>(
  items: readonly T[],
  query: URLSearchParams,
  defaultLimit: number,
  view: (item: T) => object,
): object => {
  const ordered = query.get("order") === "asc" ? items : items.toReversed();
  const limit = Math.min(MAX_LIMIT, Math.max(1, Number(query.get("limit") ?? defaultLimit) || defaultLimit));
  const start = ordered.findIndex(({ id }) => id === query.get("after")) + 1;
  const shown = ordered.slice(start, start + limit);
  return {
    object: "list",
    data: shown.map(view),
    first_id: shown[0]?.id ?? null,
    last_id: shown.at(-1)?.id ?? null,
    has_more: start + limit < ordered.length,
  };
};

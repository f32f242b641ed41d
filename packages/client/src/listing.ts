import type { Http, QueryValue } from "./http.ts";
import type { ListQuery, Page } from "./model.ts";

/** A list of the server: iterate over its items, its pages, or read one page. */
export interface Listing<T> extends AsyncIterable<T> {
  /** The page at the query's cursor, or the first. */
  page(): Promise<Page<T>>;
  /** That page and all after it. */
  pages(): AsyncIterable<Page<T>>;
}

export const queryOf = <T, Key extends keyof T>(
  query: ListQuery<T, Key>,
): Readonly<Record<string, QueryValue>> => ({
  limit: query.limit,
  $filter: query.filter,
  $orderby: query.orderby,
  $select: query.select?.join(","),
  cursor: query.cursor,
});

/** Reads a list page by page; nothing is asked before it is iterated. */
export const createListing = <T>(
  http: Http,
  path: string,
  query: Readonly<Record<string, QueryValue>>,
  signal: AbortSignal | undefined,
): Listing<T> => {
  // A cursor carries the order it was made with; `$orderby` beside it is refused (api.md §4).
  const read = (cursor: QueryValue): Promise<Page<T>> =>
    http.json({
      path,
      query: cursor === undefined ? query : { ...query, $orderby: undefined, cursor },
      signal,
    });
  async function* pages(): AsyncGenerator<Page<T>, void> {
    for (let cursor = query["cursor"]; ; ) {
      const page = await read(cursor);
      yield page;
      if (page.page_info.next_cursor === null) return;
      cursor = page.page_info.next_cursor;
    }
  }
  return {
    page: () => read(query["cursor"]),
    pages,
    async *[Symbol.asyncIterator]() {
      for await (const page of pages()) yield* page.items;
    },
  };
};

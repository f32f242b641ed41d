import type { SearchHit } from "@mini-chat/client";
import { useEffect, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { chatHref } from "../lib/route.ts";

type Found =
  | { readonly at: "searching" }
  | { readonly at: "found"; readonly hits: readonly SearchHit[] }
  | { readonly at: "failed"; readonly problem: string };

const pauseMs = 250;

const useSearch = (words: string): Found => {
  const { client } = useApp();
  const [found, setFound] = useState<Found>({ at: "searching" });
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      client
        .search(words, { limit: 30 }, { signal: stop.signal })
        .page()
        .then(({ items }) => setFound({ at: "found", hits: items }))
        .catch((error: unknown) => {
          if (!stop.signal.aborted) setFound({ at: "failed", problem: problemText(error) });
        });
    }, pauseMs);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [client, words]);
  return found;
};

/** The excerpt with what was found marked; ranges count code points. */
const Excerpt = ({ hit }: { readonly hit: SearchHit }) => {
  const letters = [...hit.excerpt];
  const pieces: React.ReactNode[] = [];
  let at = 0;
  for (const { start, end } of hit.highlights) {
    pieces.push(
      letters.slice(at, start).join(""),
      <mark key={start}>{letters.slice(start, end).join("")}</mark>,
    );
    at = end;
  }
  pieces.push(letters.slice(at).join(""));
  return <>{pieces}</>;
};

export const SearchResults = ({
  words,
  onLeave,
}: {
  readonly words: string;
  readonly onLeave: () => void;
}) => {
  const found = useSearch(words);
  if (found.at === "searching") return <p className="chat-list sidebar-note">Searching…</p>;
  if (found.at === "failed") {
    return (
      <p className="chat-list sidebar-note" role="alert">
        {found.problem}
      </p>
    );
  }
  return (
    <div className="chat-list">
      <p className="sidebar-note" role="status">
        {found.hits.length === 0 ? "Nothing was found." : `${found.hits.length} found`}
      </p>
      <ul>
        {found.hits.map((hit) => (
          <li key={`${hit.chat_id} ${hit.message_id ?? "title"}`} className="hit">
            <a href={chatHref(hit.chat_id)} onClick={onLeave}>
              <span className="chat-name" dir="auto">
                {hit.chat_title || "Untitled chat"}
              </span>
              <span className="hit-text" dir="auto">
                <Excerpt hit={hit} />
              </span>
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
};

import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Virtualizer, type VirtualizerHandle } from "virtua";
import type { Part } from "../markdown/blocks.ts";
import { PartView } from "../markdown/PartView.tsx";
import { type Markers, MarkingProvider } from "../markdown/SourceMark.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { AnswerFoot } from "./AnswerFoot.tsx";
import { AnswerHead } from "./AnswerHead.tsx";
import { QuestionRow } from "./QuestionRow.tsx";
import { type Row, rowsOf } from "./rows.ts";
import type { TurnActions } from "./turn-actions.ts";
import type { TurnView } from "./turn-view.ts";

interface MessageListProps {
  readonly turns: readonly TurnView[];
  readonly hasOlder: boolean;
  readonly loadOlder: () => Promise<void>;
  readonly actions: TurnActions;
}

const RowView = memo(({ row, actions }: { readonly row: Row; readonly actions: TurnActions }) => {
  switch (row.kind) {
    case "question":
      return <QuestionRow turn={row.turn} last={row.last} actions={actions} />;
    case "head":
      return <AnswerHead turn={row.turn} />;
    case "part":
      return <PartRow part={row.part} open={row.open} markers={row.markers} onSource={actions.openSource} />;
    default:
      return <AnswerFoot turn={row.turn} last={row.last} actions={actions} />;
  }
});

interface PartRowProps {
  readonly part: Part;
  readonly open: boolean;
  readonly markers: Markers | null;
  readonly onSource: TurnActions["openSource"];
}

/** A piece of an answer whose markers open their sources; it is not looked at again while nothing of it changes. */
const PartRow = memo(({ part, open, markers, onSource }: PartRowProps) => {
  const marking = useMemo(() => (markers === null ? null : { markers, open: onSource }), [markers, onSource]);
  return (
    <MarkingProvider value={marking}>
      <PartView part={part} open={open} />
    </MarkingProvider>
  );
});

const nearPx = 80;
const olderPx = 600;

/** The messages, of which only what is visible exists; stays at the end while that is where the reader is. */
export const MessageList = ({ turns, hasOlder, loadOlder, actions }: MessageListProps) => {
  const scroller = useRef<HTMLDivElement>(null);
  const list = useRef<VirtualizerHandle>(null);
  const stuck = useRef(true);
  const position = useRef(0);
  const asking = useRef(false);
  const [away, setAway] = useState(false);
  const rows = rowsOf(turns);
  const firstKey = rows[0]?.key;
  const known = useRef(firstKey);
  const prepended = known.current !== firstKey && rows.some(({ key }) => key === known.current);
  const count = rows.length;
  const { key: lastKey, own = false } = turns.at(-1) ?? {};

  const toEnd = useCallback((): void => {
    stuck.current = true;
    setAway(false);
    const box = scroller.current;
    if (box === null) return;
    box.scrollTop = box.scrollHeight;
    position.current = box.scrollTop;
  }, []);

  useLayoutEffect(() => {
    known.current = firstKey;
  }, [firstKey]);

  // Not `scrollToIndex`: it goes on for a while, and would take back one who scrolls up meanwhile.
  useLayoutEffect(() => {
    if (stuck.current && count > 0) toEnd();
  }, [count, toEnd]);

  // A message of one's own is what one wants to see, wherever one was.
  useEffect(() => {
    if (lastKey !== undefined && (own || stuck.current)) toEnd();
  }, [lastKey, own, toEnd]);

  const onScroll = (offset: number): void => {
    const handle = list.current;
    if (handle === null) return;
    const left = handle.scrollSize - handle.viewportSize - offset;
    // Only the reader moves up; a list whose rows turn out higher than they were thought is not left by that.
    if (left < nearPx) stuck.current = true;
    else if (offset < position.current) stuck.current = false;
    position.current = offset;
    setAway(!stuck.current && left > nearPx * 4);
    if (offset < olderPx && hasOlder && !asking.current) {
      asking.current = true;
      loadOlder()
        .catch(() => {})
        .finally(() => {
          asking.current = false;
        });
    }
  };

  const onResize = (): void => {
    if (stuck.current) toEnd();
  };

  return (
    <div className="messages-frame">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <section className="messages" ref={scroller} tabIndex={0} aria-label="Messages">
        <Virtualizer
          ref={list}
          scrollRef={scroller}
          data={rows}
          shift={prepended}
          bufferSize={400}
          onScroll={onScroll}
          onResize={onResize}
        >
          {(row: Row) => (
            <div key={row.key} className={`row row-${row.kind}`}>
              <RowView row={row} actions={actions} />
            </div>
          )}
        </Virtualizer>
      </section>
      {away && <IconButton className="to-end" icon="down" label="To the latest message" onClick={toEnd} />}
    </div>
  );
};

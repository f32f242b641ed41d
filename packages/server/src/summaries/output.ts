/**
 * The summary in what a model wrote (context.md §6.3 step 9): without its analysis, inside its tags, or
 * all of it when it wrote none. Null when nothing is left, or half a tag shows that it was cut off.
 */
export const readSummary = (written: string): string | null => {
  const answer = written.replaceAll(/<analysis>[\s\S]*?<\/analysis>/gi, "");
  const tagged = /<summary>([\s\S]*?)<\/summary>/i.exec(answer)?.[1];
  const text = storable(tagged ?? answer).trim();
  if (text === "" || /<\/?(?:analysis|summary)>/i.test(text)) return null;
  return text.replaceAll(/\n{3,}/g, "\n\n");
};

/** What PostgreSQL can store. */
const storable = (text: string): string => text.toWellFormed().replaceAll("\0", "");

/**
 * Where secrets end, found by hand: no step looks at a character more than a few times, whatever the text
 * (outbox.md §4.5). The regular expressions that say the same are in the tests, which compare both.
 */

/** Classes of characters below 128, as bits. */
const tokenBit = 1;
const urlBit = 2;
const runBit = 4;
const capitalBit = 8;
const labelBit = 16;

const classes = new Uint8Array(128);
const mark = (characters: string, bit: number): void => {
  for (const character of characters) {
    const code = character.charCodeAt(0);
    classes[code] = (classes[code] ?? 0) | bit;
  }
};
const capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const digits = "0123456789";
const alphanumeric = `${capitals}${capitals.toLowerCase()}${digits}`;
mark(`${alphanumeric}._~+/-`, tokenBit);
mark(`${alphanumeric}_-`, urlBit);
mark(`${alphanumeric}+/_=-`, runBit);
mark(`${capitals}${digits}`, capitalBit);
mark(`${capitals}${digits} `, labelBit);

/** The class of the character at a position; 0 beyond the end and for everything that is not ASCII. */
const classAt = (text: string, at: number): number => {
  const code = text.charCodeAt(at);
  // NaN beyond the end.
  return code < 128 ? (classes[code] ?? 0) : 0;
};

/** The first position from `at` on that is not of the class. */
const after = (text: string, at: number, bit: number): number => {
  let end = at;
  while ((classAt(text, end) & bit) !== 0) end += 1;
  return end;
};

// What `\s` matches.
const isSpace = (code: number): boolean =>
  code === 32 || (code >= 9 && code <= 13) || (code >= 0xa0 && isWideSpace(code));

const isWideSpace = (code: number): boolean =>
  code === 0xa0 ||
  code === 0x1680 ||
  (code >= 0x2000 && code <= 0x200a) ||
  code === 0x2028 ||
  code === 0x2029 ||
  code === 0x202f ||
  code === 0x205f ||
  code === 0x3000 ||
  code === 0xfeff;

/** The first position from `at` on that is no space character. */
export const afterBlanks = (text: string, at: number): number => {
  let end = at;
  while (text.charCodeAt(end) === 32) end += 1;
  return end;
};

/** The first position from `at` on that is not white space. */
export const afterSpaces = (text: string, at: number): number => {
  let end = at;
  while (isSpace(text.charCodeAt(end))) end += 1;
  return end;
};

const isQuote = (code: number): boolean => code === 34 || code === 39 || code === 96;

/** Whether a value ends here: at white space, a quote, a comma, `&`, `;` or the end of the text. */
const endsValue = (text: string, at: number): boolean => {
  const code = text.charCodeAt(at);
  return Number.isNaN(code) || code === 44 || code === 38 || code === 59 || isQuote(code) || isSpace(code);
};

/** The end of what an earlier pass put in place of a value, when that is all there is; else -1. */
const endOfReplaced = (text: string, at: number): number => {
  if (!text.startsWith("[REDACTED", at)) return -1;
  let end = at + "[REDACTED".length;
  for (
    let code = text.charCodeAt(end);
    code === 95 || (code >= 65 && code <= 90);
    code = text.charCodeAt(end)
  ) {
    end += 1;
  }
  return text.charCodeAt(end) === 93 && endsValue(text, end + 1) ? end + 1 : -1;
};

/** The end of the value that begins at `at`, or -1 where none does or an earlier pass has replaced it. */
export const endOfValue = (text: string, at: number): number => {
  if (endsValue(text, at) || endOfReplaced(text, at) >= 0) return -1;
  let end = at + 1;
  while (!endsValue(text, end)) end += 1;
  return end;
};

/** The start of the value of a field whose name ends at `at`: behind `=` or `:`; -1 where there is neither. */
export const startOfFieldValue = (text: string, at: number): number => {
  const quoted = isPlainQuote(text.charCodeAt(at)) ? at + 1 : at;
  const separator = afterSpaces(text, quoted);
  const code = text.charCodeAt(separator);
  if (code !== 61 && code !== 58) return -1;
  const start = afterSpaces(text, separator + 1);
  return isPlainQuote(text.charCodeAt(start)) ? start + 1 : start;
};

const isPlainQuote = (code: number): boolean => code === 34 || code === 39;

/** The end of a bearer token that begins at `at`, trailing `=` included; -1 where none does. */
export const endOfBearerToken = (text: string, at: number): number => {
  let end = after(text, at, tokenBit);
  if (end === at) return -1;
  while (text.charCodeAt(end) === 61) end += 1;
  return end;
};

/** The end of a token whose first part goes on at `at`: two more parts, each behind a dot; -1 without them. */
export const endOfJwt = (text: string, at: number): number => {
  let end = after(text, at, urlBit);
  for (let part = 0; part < 2; part += 1) {
    if (text.charCodeAt(end) !== 46) return -1;
    const start = end + 1;
    end = after(text, start, urlBit);
    if (end === start) return -1;
  }
  return end;
};

/** The end of a key of at least ten characters; -1 for a shorter one. */
export const endOfOpenaiKey = (text: string, at: number): number => {
  const end = after(text, at, urlBit);
  return end - at >= 10 ? end : -1;
};

/** The end of exactly sixteen capitals and digits that end a word; -1 otherwise. */
export const endOfAwsKeyId = (text: string, at: number): number => {
  const end = at + 16;
  for (let position = at; position < end; position += 1) {
    if ((classAt(text, position) & capitalBit) === 0) return -1;
  }
  const next = text.charCodeAt(end);
  const isWord = next === 95 || ((classAt(text, end) & urlBit) !== 0 && next !== 45);
  return isWord ? -1 : end;
};

const maxLabel = 64;

/** The end of a line `-----BEGIN … PRIVATE KEY-----` (or END) whose label begins at `at`; -1 for others. */
export const endOfKeyLine = (text: string, at: number): number => {
  const limit = at + maxLabel + "PRIVATE KEY".length;
  let end = at;
  while (end <= limit && (classAt(text, end) & labelBit) !== 0) end += 1;
  const isKey = end <= limit && text.endsWith("PRIVATE KEY", end) && end - at >= "PRIVATE KEY".length;
  return isKey && text.startsWith("-----", end) ? end + 5 : -1;
};

/** The longest run that is kept. */
const maxRun = 200;

/**
 * The next run of more than 200 characters as of an encoded text, from `from` on, as `[start, end]`; null
 * when there is none. Such a run covers one of every 201 positions, so only these are looked at first.
 */
export const nextLongRun = (text: string, from: number): readonly [number, number] | null => {
  let before = from;
  for (let probe = from + maxRun; probe < text.length; ) {
    if ((classAt(text, probe) & runBit) === 0) {
      before = probe + 1;
      probe += maxRun + 1;
      continue;
    }
    let start = probe;
    while (start > before && (classAt(text, start - 1) & runBit) !== 0) start -= 1;
    const end = after(text, probe, runBit);
    if (end - start > maxRun) return [start, end];
    before = end + 1;
    probe = end + 1 + maxRun;
  }
  return null;
};

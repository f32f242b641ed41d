/** Words of texts and questions, made alike for both, so that PostgreSQL's parser and locale have no say. */

const maxWord = 64;
/** What `tsvector` can count up to. */
const maxPosition = 16_383;
const maxPositionsOfWord = 255;

/** Scripts that put no spaces between words. */
const unspaced =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]+/gu;

const bigramsOf = (run: string): string => {
  const characters = [...run];
  if (characters.length === 1) return ` ${run} `;
  return ` ${characters
    .slice(1)
    .map((character, at) => `${characters[at]}${character}`)
    .join(" ")} `;
};

/** `parseHttpUrl` is found as a whole and by its parts. */
const withParts = (word: string): string[] => {
  const parts = word.match(/\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{M}]+|\p{N}+/gu) ?? [];
  return parts.length > 1 && /\p{Ll}\p{Lu}/u.test(word) ? [word, ...parts] : [word];
};

/** Plurals of English, and of the languages that make them alike, become singulars; nothing else is stemmed. */
const stemmed = (word: string): string => {
  if (word.length < 4 || !/^[a-z]+s$/.test(word) || /(ss|us|is)$/.test(word)) return word;
  if (/[^aeiou]ies$/.test(word)) return `${word.slice(0, -3)}y`;
  if (/(x|z|ch|sh|ss)es$/.test(word)) return word.slice(0, -2);
  return word.slice(0, -1);
};

/** Words in their order: without case, accents of Latin letters and compatibility forms. */
export const wordsOf = (text: string): string[] =>
  (
    text
      .normalize("NFKD")
      .replace(/[\u0300-\u036f]/g, "")
      .normalize("NFC")
      .replace(unspaced, bigramsOf)
      .match(/[\p{L}\p{N}\p{M}]+/gu) ?? []
  )
    .flatMap(withParts)
    .map((word) => stemmed([...word.toLowerCase()].slice(0, maxWord).join("")));

/** The text of a `tsvector` with the positions of the words. */
export const vectorOf = (text: string): string => {
  const positions = new Map<string, number[]>();
  for (const [at, word] of wordsOf(text).entries()) {
    const own = positions.get(word);
    if (own === undefined) positions.set(word, [Math.min(at + 1, maxPosition)]);
    else if (own.length < maxPositionsOfWord) own.push(Math.min(at + 1, maxPosition));
  }
  return [...positions].map(([word, own]) => `'${word}':${own.join(",")}`).join(" ");
};

// Of the four languages questions are most often asked in; only left out while other words remain.
const fillers = new Set(
  `a about all also am an and any are as at be been but by can could did do does for from had has have he her his how i
  if in into is it its me more most my no not of on or our out please she should so some such tell than that the their them
  then there these they this those to up us was we were what when where which who why will with would you your
  aber als am an auch auf aus bei bin bis bitte da das dass dem den der des die dies diese dieser doch du ein eine einem
  einen einer eines er es fur gibt habe haben hat ich ihr im in ist ja kann kein konnen man mein mich mir mit nach
  nicht noch nur oder ob sein sich sie sind so um und uns unser vom von vor war was wann warum welche welcher wenn wer wie wir
  wird wo zu zum zur
  au aux avec ce ces cette comment dans de des du elle en est et il ils je la le les leur lui ma mais me mes moi mon
  ne nos notre nous ou par pas pour qu que quel quelle quels qui sa se ses son sont sur ta te tu un une vos votre vous
  al como con cual cuando del donde el ella entre era esta este esto hay la las lo los mas mi muy no nos o para pero por
  porque que quien se si sin sobre su sus te tiene un una uno y ya`.split(/\s+/),
);

/** More words than this say no more about what is asked, and each costs a look-up. */
export const maxQuestionWords = 24;

/** What a question is searched by: its distinct words, long ones first when there are too many. */
export const questionWords = (question: string): string[] => {
  const all = [...new Set(wordsOf(question))];
  const telling = all.filter((word) => !fillers.has(word));
  const words = telling.length === 0 ? all : telling;
  return words.length <= maxQuestionWords
    ? words
    : words.toSorted((a, b) => b.length - a.length || (a < b ? -1 : 1)).slice(0, maxQuestionWords);
};

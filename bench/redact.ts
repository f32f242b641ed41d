import { redact } from "../packages/server/src/audit/redact.ts";
import { type Summary, summarise } from "./support.ts";

const BYTES = 1_048_576;
const ROUNDS = 15;

const repeated = (unit: string): string => unit.repeat(Math.ceil(BYTES / unit.length)).slice(0, BYTES);

/** As much text as the others, of the characters given, the same in every run. */
const scattered = (alphabet: string, seed = 1): string => {
  let state = seed;
  const characters = Array.from({ length: BYTES }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return alphabet[(state >>> 16) % alphabet.length];
  });
  return characters.join("");
};

const prose =
  "The release went out on Friday; see https://example.test/notes?id=42 for what changed, and ask if unsure. ";

/** Ordinary text, and text made to be slow: starts of patterns without their ends, and ends without starts. */
export const texts: Readonly<Record<string, string>> = {
  prose: repeated(prose),
  prose_not_latin: repeated("Релиз вышел в пятницу; что нового, написано рядом. 本日は晴天なり。"),
  json: repeated('{"id":17,"name":"widget","tags":["a","b"],"price":9.75},\n'),
  one_run: repeated("A"),
  runs_of_200: repeated(`${"A".repeat(200)} `),
  spaces: repeated(" "),
  equals: repeated("="),
  dashes: repeated("-"),
  dots: repeated("a.b."),
  letter_e: repeated("e"),
  ey: repeated("ey"),
  ey_j: repeated("eyJ"),
  jwt_starts: repeated("eyJa.eyJb "),
  jwt_without_end: repeated("eyJ."),
  jwts: repeated("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl "),
  sk: repeated("sk-"),
  sk_short: repeated("sk-123456789 "),
  akia: repeated("AKIA"),
  akia_short: repeated("AKIAIOSFODNN7EXAMPL "),
  bearer: repeated("Bearer "),
  bearer_spaces: repeated(`Bearer${" ".repeat(1_000)}\n`),
  bearer_tokens: repeated("Bearer abc "),
  password: repeated("password"),
  password_spaces: repeated(`password${" ".repeat(1_000)}x`),
  password_equals: repeated("password="),
  password_quoted: repeated('password="'),
  passwords: repeated("password=x "),
  api_key: repeated("api_key:"),
  api_header: repeated("api-key:"),
  api_header_spaces: repeated(`api-key:${" ".repeat(1_000)}"`),
  x_api_keys: repeated("x-api-key: abc, "),
  client_secret: repeated("client_secret "),
  pem_starts: repeated("-----BEGIN "),
  pem_open: repeated("-----BEGIN PRIVATE KEY-----"),
  pem_long_label: repeated(`-----BEGIN ${"A ".repeat(40)}`),
  pem_ends: repeated("-----END PRIVATE KEY-----"),
  pem_pairs: repeated("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"),
  replaced: repeated("[REDACTED] password=[REDACTED] "),
  replaced_open: repeated("password=[REDACTED"),
  letters: scattered("abcdefghijklmnopqrstuvwxyz"),
  starts: scattered("eyJsk-AKIABp=: ."),
  base64: scattered("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"),
  value_not_latin: `password=${repeated("本")}`,
  spaces_not_latin: `password${repeated("\u3000")}`,
  wide_passwords: repeated("password=x 本 "),
  wide_tokens: repeated("Bearer abc… sk-0123456789 api-key:x "),
  all_starts: repeated("Bearer eyJ sk- AKIA api-key password= -----BEGIN "),
};

const measure = (text: string): { readonly wall: Summary; readonly cpu: Summary } => {
  const wall: number[] = [];
  const cpu: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    // A text of its own each time: the engine keeps what it found out about one it has seen.
    const own = `${round}${text.slice(0, -2)}`;
    const used = process.cpuUsage();
    const begin = performance.now();
    redact(own);
    wall.push(performance.now() - begin);
    const { user, system } = process.cpuUsage(used);
    cpu.push((user + system) / 1_000);
  }
  return { wall: summarise(wall), cpu: summarise(cpu) };
};

const rounded = (value: number): number => Math.round(value * 100) / 100;

/** Milliseconds to redact one mebibyte of text of many kinds (outbox.md §4.5 asks for less than 50). */
export async function run(): Promise<object> {
  for (const text of Object.values(texts)) redact(text.slice(0, 65_536));
  const kinds = Object.entries(texts).map(([name, text]) => {
    const { wall, cpu } = measure(text);
    return [
      name,
      { median: rounded(wall.median), min: rounded(wall.min), cpu: rounded(cpu.median) },
    ] as const;
  });
  const slowest = kinds.reduce((one, other) => (other[1].median > one[1].median ? other : one));
  return {
    unit: "ms per MiB",
    rounds: ROUNDS,
    slowest: { kind: slowest[0], ...slowest[1] },
    kinds: Object.fromEntries(kinds),
  };
}

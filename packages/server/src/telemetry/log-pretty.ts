const colours: Readonly<Record<string, string>> = {
  debug: "\u001b[90m",
  info: "\u001b[32m",
  warn: "\u001b[33m",
  error: "\u001b[31m",
  critical: "\u001b[41;97m",
};
const reset = "\u001b[0m";
const dim = "\u001b[2m";

// The same on every line of a process; a reader of the pretty format has one process before him.
const hidden = new Set(["ts", "level", "msg", "service", "version", "instance_id", "role", "err"]);

const scalar = (value: unknown): string =>
  typeof value === "string" && /^[\w.:/@-]+$/.test(value) ? value : JSON.stringify(value);

/** One JSON line as `12:00:01.123 WARN  message key=value …`, a stack below it. For development. */
export const prettyLine = (line: string): string => {
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return line;
  }
  if (typeof entry !== "object" || entry === null) return line;
  const fields = new Map<string, unknown>(Object.entries(entry));
  const level = String(fields.get("level") ?? "info");
  const time = String(fields.get("ts") ?? "").slice(11, 23);
  const rest = [...fields]
    .filter(([key, value]) => !hidden.has(key) && value !== undefined)
    .map(([key, value]) => ` ${dim}${key}=${reset}${scalar(value)}`);
  const head = `${dim}${time}${reset} ${colours[level] ?? ""}${level.toUpperCase().padEnd(8)}${reset} ${String(fields.get("msg") ?? "")}`;
  return `${head}${rest.join("")}\n${stackOf(fields.get("err"))}`;
};

const stackOf = (err: unknown): string => {
  if (typeof err !== "object" || err === null) return "";
  const { stack, message } = err as { stack?: unknown; message?: unknown };
  const text = typeof stack === "string" ? stack : String(message ?? "");
  return `${text.replace(/^/gm, "    ")}\n`;
};

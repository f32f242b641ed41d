import { createHash } from "node:crypto";

const style = `
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
details{border:1px solid #8884;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;background:#8881;padding:.6rem;border-radius:6px}
.method{display:inline-block;width:4.5rem;font-weight:600}
table{border-collapse:collapse;width:100%}td{padding:.15rem .6rem .15rem 0;vertical-align:top}
`;

// Text is only ever set as text, so nothing in the document can become markup.
const script = `
const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children);
  return element;
};
const code = (value) => make("pre", null, make("code", JSON.stringify(value, null, 2)));
const row = (...cells) => make("tr", null, ...cells.map((cell) => make("td", cell)));
const operation = (path, method, op) => {
  const name = make("span", method.toUpperCase());
  name.className = "method";
  const box = make("details", null, make("summary", null, name, make("code", path), " " + (op.summary ?? "")));
  if (op.description) box.append(make("p", op.description));
  if (op.parameters) box.append(make("h4", "Parameters"), make("table", null, ...op.parameters.map((p) =>
    row(p.name, p.in + (p.required ? ", required" : ""), p.description ?? p.schema.format ?? p.schema.type ?? ""))));
  if (op.requestBody) box.append(make("h4", "Body"), code(Object.values(op.requestBody.content)[0].schema));
  box.append(make("h4", "Answers"));
  for (const [status, response] of Object.entries(op.responses)) {
    box.append(make("p", status + ": " + response.description));
    if (Number(status) < 400) for (const [type, media] of Object.entries(response.content ?? {})) box.append(make("p", type), code(media.schema));
  }
  return box;
};
fetch(location.pathname.replace(/docs$/, "openapi.json")).then((answer) => answer.json()).then((spec) => {
  const main = document.querySelector("main");
  main.replaceChildren(make("h1", spec.info.title + " API"), make("p", spec.info.description), make("p", "Base: " + spec.servers[0].url));
  for (const [path, methods] of Object.entries(spec.paths)) for (const [method, op] of Object.entries(methods)) main.append(operation(path, method, op));
  main.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(spec.components.schemas)) {
    const box = make("details", null, make("summary", name), code(schema));
    box.id = name;
    main.append(box);
  }
}).catch(() => { document.querySelector("main").textContent = "The document could not be loaded."; });
`;

const hash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** The viewer of the OpenAPI document: one page without external assets (api.md §9). */
export const docsPage = {
  html: `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>mini-chat API</title><style>${style}</style></head><body><main>Loading…</main><script>${script}</script></body></html>`,
  /** Only this very script and style run, and only this server is asked. */
  policy: `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
} as const;

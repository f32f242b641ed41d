import { expect, test } from "vitest";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

const corpus = [
  "<script>window.hacked = 1</script>",
  '<img src=x onerror="window.hacked = 2">',
  "<svg onload='window.hacked = 3'></svg>",
  "<iframe src='https://evil.example'></iframe>",
  "[click](javascript:window.hacked=4)",
  "[click](JaVaScRiPt:window.hacked=5)",
  "[click](&#106;avascript:window.hacked=6)",
  "[click](java\tscript:window.hacked=7)",
  "[click](data:text/html;base64,PHNjcmlwdD4=)",
  "[click](vbscript:x) [file](file:///etc/passwd) [blob](blob:x)",
  "![track](https://evil.example/pixel.png)",
  "![x](javascript:window.hacked=8)",
  "<https://evil.example/auto>",
  "[user](https://user:secret@evil.example/)",
  '<a href="https://evil.example" onclick="window.hacked = 9">raw</a>',
  "<style>body { display: none }</style>",
  "<form action='https://evil.example'><input name=q></form>",
  "<base href='https://evil.example/'>",
  "<meta http-equiv='refresh' content='0;url=https://evil.example'>",
  '[ref]\n\n[ref]: javascript:window.hacked=10 "title"',
  '```html\n<script>window.hacked = 11</script>\n<span class="hljs-x" onclick="x">\n```',
  "`<img src=x onerror=window.hacked=12>`",
  "| a |\n|---|\n| <img src=x onerror=window.hacked=13> |",
  "<details open ontoggle=window.hacked=14><summary>x</summary></details>",
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.hacked=15&gt;">',
];

test("whatever an answer holds is shown and never run, loaded or followed", async () => {
  const text = corpus.join("\n\n");
  stage.app.simulator.enqueue({ events: [{ text }] });
  const { page, complaints } = await stage.open();
  await ask(page, text);
  await answered(page);
  const messages = page.getByRole("region", { name: "Messages" });
  const seen: unknown[] = [];
  const height = await messages.evaluate((box) => box.scrollHeight);
  for (let top = 0; top <= height; top += 300) {
    await messages.evaluate((box, to) => box.scrollTo(0, to), top);
    await page.evaluate(
      () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))),
    );
    seen.push(
      ...(await messages.evaluate((box) =>
        [...box.querySelectorAll("*")].flatMap((element) => {
          const bad = [...element.attributes]
            .filter(
              ({ name, value }) =>
                name.startsWith("on") ||
                (/^(href|src|action)$/.test(name) && !/^(https:|mailto:)/.test(value)),
            )
            .map(({ name, value }) => `${element.localName} ${name}=${value}`);
          return /^(script|iframe|img|style|form|base|meta|object|embed|math|details)$/.test(
            element.localName,
          )
            ? [...bad, element.localName]
            : bad;
        }),
      )),
    );
  }
  expect(seen).toEqual([]);
  expect(await page.evaluate(() => Reflect.get(window, "hacked"))).toBeUndefined();
  expect(await messages.getByRole("link", { name: "user" }).count()).toBe(0);
  expect(complaints).toEqual([]);
});

test("a link says where it leads before it is followed", async () => {
  stage.app.simulator.enqueue({ events: [{ text: "[my bank](https://evil.example/login)" }] });
  const { page, context } = await stage.open();
  await ask(page, "link");
  await page.getByRole("link", { name: "my bank" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("https://evil.example/login").waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await dialog.waitFor({ state: "detached" });
  expect(context.pages()).toHaveLength(1);
});

test("code has its language, colours and a button to copy it", async () => {
  const code = "const answer: number = 42; // why";
  stage.app.simulator.enqueue({ events: [{ text: `Look:\n\n\`\`\`ts\n${code}\n\`\`\`\n` }] });
  const { page } = await stage.open({ browser: { permissions: ["clipboard-read", "clipboard-write"] } });
  await ask(page, "code");
  await page.locator(".hljs-keyword", { hasText: "const" }).waitFor();
  await page.getByRole("button", { name: "Copy code" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(code);
});

test("tables, lists, tasks and right-to-left text are shown as such", async () => {
  const text = "| a | b |\n|---|---|\n| 1 | 2 |\n\n1. one\n2. two\n\n- [x] done\n\nשלום עולם";
  stage.app.simulator.enqueue({ events: [{ text }] });
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await ask(page, "show");
  await page.getByRole("cell", { name: "2" }).waitFor();
  expect(await page.getByRole("checkbox", { name: "Task" }).isChecked()).toBe(true);
  expect(await page.locator(".markdown").first().getAttribute("dir")).toBe("auto");
});

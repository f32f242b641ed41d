import { userInfo } from "node:os";
import { describe, expect, test } from "vitest";
import { parseArguments } from "../../src/commands/arguments.ts";
import { outboxCommands } from "../../src/commands/outbox-commands.ts";

const parse = (line: string) => parseArguments(line.split(" "));
const actionOf = (line: string) => {
  const parsed = parse(line);
  return parsed.kind === "outbox" ? parsed.given.action : parsed;
};

const tenant = "AAAAAAAA-0000-4000-8000-000000000001";
const actor = userInfo().username;

test.each<[string, object]>([
  ["outbox status", { name: "status", queue: undefined, partitions: false }],
  ["outbox status --queue usage --partitions", { name: "status", queue: "usage", partitions: true }],
  ["outbox waiting", { name: "waiting", limit: 100, filter: { all: false } }],
  [
    `outbox waiting --all --queue usage --tenant ${tenant} --partition 3 --limit 7`,
    {
      name: "waiting",
      limit: 7,
      filter: { all: true, queue: "usage", tenantId: tenant.toLowerCase(), partitionId: 3 },
    },
  ],
  [
    `outbox reject --message ${tenant} --reason refused --actor ann`,
    { name: "reject", messageId: tenant.toLowerCase(), reason: "refused", actor: "ann" },
  ],
  [`outbox reject --message=${tenant}`, { name: "reject", reason: undefined, actor }],
  ["outbox dead list", { name: "dead list", limit: 100, payload: false, filter: {} }],
  [
    `outbox dead list --queue=q --status all --tenant ${tenant} --kind usage --partition 3 --fingerprint f --limit 7 --payload`,
    {
      name: "dead list",
      limit: 7,
      payload: true,
      filter: {
        queue: "q",
        status: "all",
        tenantId: tenant.toLowerCase(),
        kind: "usage",
        partitionId: 3,
        fingerprint: "f",
      },
    },
  ],
  ["outbox dead count --status resolved", { name: "dead count", filter: { status: "resolved" } }],
  ["outbox dead show 12 --payload", { name: "dead show", id: 12n, payload: true }],
  [
    "outbox dead requeue 3 1 --actor ann",
    { name: "dead requeue", selection: { ids: [3n, 1n] }, dryRun: false, actor: "ann" },
  ],
  ["outbox dead requeue 3", { name: "dead requeue", selection: { ids: [3n] }, dryRun: false, actor }],
  [
    "outbox dead discard --fingerprint f --limit 5 --dry-run",
    {
      name: "dead discard",
      selection: { filter: { fingerprint: "f" }, limit: 5 },
      dryRun: true,
      actor,
    },
  ],
  ["outbox dead discard --all", { selection: { filter: {}, limit: Number.MAX_SAFE_INTEGER } }],
  ["outbox purge", { name: "purge", queue: undefined, allTerminal: false, actor }],
  [
    "outbox dead purge --all-terminal --queue usage",
    { name: "purge", queue: "usage", allTerminal: true, actor },
  ],
  ["outbox pause --partition 3", { name: "pause", partitionId: 3, queue: undefined, actor }],
  ["outbox resume --queue usage", { name: "resume", partitionId: undefined, queue: "usage", actor }],
  ["outbox repartition --queue all --count 32", { name: "repartition", queue: "all", count: 32, actor }],
])("%s", (line, action) => {
  expect(actionOf(line)).toMatchObject(action);
});

test("the configuration may be named anywhere, by file and by key", () => {
  const lines = [
    "outbox --config c.yaml --json --database.max_connections 3 status",
    "outbox status --config c.yaml --json --database.max_connections=3",
    "--config c.yaml --database.max_connections=3 outbox status --json",
  ];
  for (const line of lines) {
    expect(parse(line)).toMatchObject({
      kind: "outbox",
      given: { json: true, config: "c.yaml", flags: { "database.max_connections": "3" } },
    });
  }
});

describe("what makes no sense is told, with the flag", () => {
  test.each<[string, RegExp]>([
    ["outbox", /usage: mini-chat outbox/],
    ["outbox frobnicate", /unknown command: outbox frobnicate/],
    ["outbox dead", /unknown command: outbox dead/],
    ["outbox status --quue usage", /--quue/],
    ["outbox status --queue", /--queue needs a value/],
    ["outbox status --queue --json", /--queue needs a value/],
    ["outbox status --json=yes", /--json takes no value/],
    ["outbox status --queue a --queue b", /--queue is given twice/],
    ["outbox status extra", /unexpected argument "extra"/],
    ["outbox waiting --all=yes", /--all takes no value/],
    ["outbox reject --actor ann", /reject needs --message ID/],
    ["outbox reject --message 12", /--message must be a UUID, not "12"/],
    [`outbox reject --message ${tenant} --reason=`, /--reason must be 1 to 2000 characters/],
    [`outbox reject --message ${tenant} --reason ${"x".repeat(2_001)}`, /--reason/],
    [`outbox reject ${tenant}`, /reject needs --message ID/],
    ["outbox dead list --limit 0", /--limit must be a whole number from 1/],
    ["outbox dead list --limit ten", /--limit .*"ten"/],
    ["outbox dead list --limit 1e3", /--limit/],
    ["outbox dead list --tenant ann", /--tenant must be a UUID/],
    [
      "outbox dead list --status open",
      /--status must be one of pending, reprocessing, resolved, discarded, all/,
    ],
    ["outbox dead list --partition 99999999999", /--partition/],
    ["outbox dead show", /dead show takes one ID/],
    ["outbox dead show 1 2", /dead show takes one ID/],
    ["outbox dead show abc", /ID must be a whole number/],
    ["outbox dead requeue", /dead requeue needs IDs, a flag that says which, or --all/],
    ["outbox dead requeue --limit 3", /needs IDs, a flag that says which, or --all/],
    ["outbox dead requeue 1 --queue usage", /--queue makes no sense beside IDs/],
    ["outbox dead discard 1 --all", /--all makes no sense beside IDs/],
    ["outbox dead discard 1 --limit 5", /--limit makes no sense beside IDs/],
    [`outbox purge --actor ${"x".repeat(129)}`, /--actor/],
    ["outbox pause", /pause needs either --partition ID or --queue QUEUE/],
    ["outbox pause --partition 1 --queue usage", /either/],
    ["outbox repartition --count 4", /needs --queue/],
    ["outbox repartition --queue all", /needs --count/],
    ["outbox repartition --queue all --count 12", /--count must be a power of two from 1 to 64, not 12/],
    ["outbox repartition --queue all --count 128", /--count/],
  ])("%s", (line, message) => {
    const parsed = parse(line);
    expect(parsed.kind === "wrong" ? parsed.message : "text" in parsed ? parsed.text : "").toMatch(message);
  });
});

test.each(Object.keys(outboxCommands))("outbox %s --help tells each of its flags", (name) => {
  const parsed = parse(`outbox ${name} --help`);
  const text = parsed.kind === "help" ? parsed.text : "";
  const command = outboxCommands[name as keyof typeof outboxCommands];
  for (const flag of [...Object.keys(command.flags), "json", "config"]) expect(text).toContain(`--${flag}`);
});

test("the help of the program names outbox, that of outbox all its commands", () => {
  const [top, outbox] = [parse("--help"), parse("outbox --help")];
  expect(top).toMatchObject({ kind: "help", text: expect.stringContaining("mini-chat outbox COMMAND") });
  for (const name of Object.keys(outboxCommands)) {
    expect(outbox).toMatchObject({ kind: "help", text: expect.stringContaining(`  ${name}`) });
  }
});

import { startEmbedded } from "../../src/db/embedded.ts";

/** A process that owns an embedded database until a line arrives on stdin: for tests that kill it. */
const [dataDir = "", settings = "{}"] = process.argv.slice(2);
const server = await startEmbedded({ dataDir, settings: JSON.parse(settings) });
process.stdout.write(`${JSON.stringify({ pid: server.pid, url: server.url, adopted: server.adopted })}\n`);
process.stdin.once("data", async () => {
  await server.stop();
  process.exit(0);
});

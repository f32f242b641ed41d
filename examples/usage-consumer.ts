/**
 * A receiver of usage events: verifies the signature, takes each event once, keeps the sum per tenant.
 *
 *   MINI_CHAT_SECRET=… npx node examples/usage-consumer.ts 8081
 *
 * and on the side of mini-chat:
 *
 *   plugins:
 *     usage: { type: http, url: "http://127.0.0.1:8081/usage", secret: "…" }
 *
 * The sums live in memory and are gone when it ends: it shows the steps. `usage-ledger.ts` is the same with
 * a database, and counts each event exactly once whatever happens.
 */
import { createServer } from "node:http";
import {
  createDeduplicator,
  EventError,
  eventKey,
  memoryKeys,
  parseUsageEvent,
  signatureHeader,
  verifySignature,
} from "../packages/client/src/events/index.ts"; // installed: "@mini-chat/client/events"

const secret = process.env["MINI_CHAT_SECRET"] ?? "";
if (secret === "") throw new Error("MINI_CHAT_SECRET is not set");

const sums = new Map<string, bigint>();
const { once } = createDeduplicator(memoryKeys());

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const failure = verifySignature({
    secrets: [secret],
    header: `${request.headers[signatureHeader] ?? ""}`,
    body,
  });
  if (failure !== null) {
    console.log(`refused: ${failure}`);
    response.writeHead(401).end();
    return;
  }
  try {
    const event = parseUsageEvent(body.toString());
    const taken = await once(eventKey(event), async () => {
      const sum = (sums.get(event.tenant_id) ?? 0n) + BigInt(event.actual_credits_micro);
      sums.set(event.tenant_id, sum);
      console.log(`${event.tenant_id}: +${event.actual_credits_micro} = ${sum}`);
    });
    if (!taken) console.log(`${event.tenant_id}: seen before`);
    // Only now: until it gets a 2xx, mini-chat keeps the event.
    response.writeHead(204).end();
  } catch (error) {
    // 422 says that it will never be taken: mini-chat keeps it for an operator to decide. Anything else
    // comes again, a word of a newer server too.
    const never = error instanceof EventError && error.kind === "unreadable";
    response.writeHead(never ? 422 : 503).end();
  }
});

server.listen(Number(process.argv[2] ?? 8081), "127.0.0.1", () => {
  const address = server.address();
  console.log(`listening on ${typeof address === "object" ? address?.port : address}`);
});

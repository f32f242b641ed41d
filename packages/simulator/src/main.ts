#!/usr/bin/env node
import { parseArgs } from "node:util";
import { startSimulator } from "./http/server.ts";

const { values } = parseArgs({
  options: { host: { type: "string", default: "127.0.0.1" }, port: { type: "string", default: "4010" } },
});
const simulator = await startSimulator({ host: values.host, port: Number(values.port) });
console.log(simulator.url);
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => void simulator.close());
}

// Preloaded into a measured server: SIGUSR2 collects all garbage and writes what is left to a file.
import { renameSync, writeFileSync } from "node:fs";

const file = process.env.BENCH_MEMORY_FILE;

process.on("SIGUSR2", async () => {
  // Once more a moment later: what finalizers release, and pages the allocator gives back lazily.
  for (let round = 0; round < 3; round += 1) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  writeFileSync(`${file}.part`, JSON.stringify(process.memoryUsage()));
  renameSync(`${file}.part`, file);
});

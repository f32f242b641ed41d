import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "examples/**/*.test.ts"],
    globalSetup: [
      "packages/server/test/support/global-setup.ts",
      "packages/web/test/support/global-setup.ts",
    ],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Of a machine that has much else to do; what never comes still fails, by name.
    expect: { poll: { timeout: 15_000 } },
  },
});

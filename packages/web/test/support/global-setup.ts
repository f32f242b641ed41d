import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("../../../../scripts/build-page.mjs", import.meta.url));

/** The page the tests look at is made of the sources as they are; once per run. */
export default function setup(): void {
  execFileSync(process.execPath, [script], { stdio: ["ignore", "ignore", "inherit"] });
}

import { expect, test } from "vitest";
import { announcement } from "../../src/commands/announcement.ts";
import { configOf, tenantA, userA } from "../auth/support.ts";

const auth = { tokens: [{ token: "dev-token", tenant_id: tenantA, user_id: userA }] };
const issuer = { issuer: "https://i.example", audience: "chat", jwks_url: "https://i.example/keys" };
const told = (sections: object, pageBuilt = true): string =>
  announcement({ config: configOf({ auth, ...sections }), port: 8087, pageBuilt, simulatorPort: null });

const base = "http://127.0.0.1:8087";
const link = `Chat in your browser, signed in: ${base}/#token=dev-token`;
const unsigned = (at: string): string => `Chat in your browser: ${at}/`;

test.each([
  ["the development token", {}, [`with the token "dev-token"`, link]],
  ["a prefix", { url_prefix: "/cf/chat" }, [`${base}/cf/chat/#token=dev-token`, `${base}/cf/chat/v1 with`]],
  ["tokens of one's own", { auth: { tokens: [{ ...auth.tokens[0], token: "mine" }] } }, [unsigned(base)]],
  ["tokens of an issuer", { auth: { mode: "jwt", jwt: issuer, ...auth } }, [unsigned(base)]],
  ["no sign-in", { auth: { disabled: true, ...auth } }, [unsigned(base)]],
])("with %s a start names a way in that works", (_name, sections, expected) => {
  const text = told(sections);
  for (const part of expected) expect(text).toContain(part);
  expect(text.includes("dev-token")).toBe(expected.some((part) => part.includes("dev-token")));
});

test("a page that is not built is said to be so, and no link leads to it", () => {
  const text = told({}, false);
  expect(text).toContain("The page is not built (npm run build): the API is served alone.");
  expect(text).not.toContain("in your browser");
});

test("a page that is switched off is not spoken of", () => {
  const text = told({ server: { web_enabled: false } });
  expect(text).not.toMatch(/browser|page/);
});

import { createClient, hasCode } from "@mini-chat/client";
import { type FormEvent, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { useStore } from "../lib/store.ts";

/** The field for a token; used for the first sign-in and when a token has expired. */
export const SignIn = () => {
  const { session, settings } = useApp();
  const { expired } = useStore(session.state);
  const [token, setToken] = useState("");
  const [remember, setRemember] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    const given = token.trim();
    if (given === "" || busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await createClient({ baseUrl: settings.baseUrl, token: given }).models.list();
      session.signIn(given, remember);
    } catch (error) {
      setProblem(
        hasCode(error, "unauthorized") ? "The server does not accept this token." : problemText(error),
      );
    } finally {
      setBusy(false);
    }
  };

  if (!session.byHand) return <HostIsSilent />;
  return (
    <form className="sign-in" onSubmit={(event) => void submit(event)}>
      <p className="muted">
        {expired
          ? "Your session has ended. Sign in again to go on; nothing is lost."
          : "Enter the access token you were given. It stays in this browser."}
      </p>
      <label className="field">
        <span>Access token</span>
        <input
          type="password"
          autoComplete="current-password"
          spellCheck={false}
          value={token}
          aria-invalid={problem !== null}
          aria-describedby={problem === null ? undefined : "sign-in-problem"}
          onChange={(event) => setToken(event.target.value)}
        />
      </label>
      {problem !== null && (
        <p className="problem" id="sign-in-problem" role="alert">
          {problem}
        </p>
      )}
      <label className="check">
        <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.target.checked)} />
        Stay signed in on this device
      </label>
      <button type="submit" className="button primary" disabled={busy || token.trim() === ""}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
};

const HostIsSilent = () => {
  const { session } = useApp();
  return (
    <div className="sign-in">
      <p className="muted">The site around this chat has not signed you in. Reload it, or try again.</p>
      <button type="button" className="button primary" onClick={session.askAgain}>
        Try again
      </button>
    </div>
  );
};

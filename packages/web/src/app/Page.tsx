import { useStore } from "../lib/store.ts";
import { SignIn } from "../session/SignIn.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { useApp } from "./context.ts";
import { Shell } from "./Shell.tsx";

const Spoken = () => {
  const { spoken } = useApp();
  return (
    <div className="hidden" role="status" aria-live="polite">
      {useStore(spoken)}
    </div>
  );
};

/** Signed in: the chats. A token that expires asks for another one above them, so that nothing is lost. */
export const Page = () => {
  const { session, settings } = useApp();
  const { status, expired } = useStore(session.state);
  if (status === "signed-out" && !expired) {
    return (
      <main className="door">
        <h1>{settings.title}</h1>
        <SignIn />
      </main>
    );
  }
  if (status === "asking-host" && !expired) {
    return (
      <main className="door">
        <h1>{settings.title}</h1>
        <p className="muted" role="status">
          Signing in…
        </p>
      </main>
    );
  }
  return (
    <>
      <Shell />
      <Spoken />
      {status === "signed-out" && (
        <Dialog title="Sign in again">
          <SignIn />
        </Dialog>
      )}
    </>
  );
};

import { Activity, Images, Monitor, Moon, Package, Server, Sun, Workflow } from "lucide-react";
import { useState } from "react";
import logo from "../assets/favicon.svg";
import { retry } from "../state/server-actions";
import { useStore } from "../state/store";
import type { Connection } from "../state/store";
import { Button, IconButton } from "./bits";
import { useTheme } from "./hooks";
import type { View } from "./hooks";

const LINKS: { view: View; label: string; icon: typeof Workflow }[] = [
  { view: "workflow", label: "Workflow", icon: Workflow },
  { view: "gallery", label: "Gallery", icon: Images },
  { view: "activity", label: "Activity", icon: Activity },
  { view: "packs", label: "Packs", icon: Package },
  { view: "server", label: "Server", icon: Server },
];

export function Header({ view }: { view: View }) {
  const waiting = useStore((app) => (app.queue ? app.queue.queue_running.length + app.queue.queue_pending.length : 0));
  return (
    <header className="header">
      <a className="brand" href="#/workflow" aria-label="Vivarium, to the workflow">
        <img src={logo} alt="" width="28" height="28" />
        <span>Vivarium</span>
      </a>
      <nav className="nav" aria-label="Views">
        {LINKS.map(({ view: target, label, icon: Icon }) => (
          <a key={target} href={`#/${target}`} className="nav-link" aria-current={view === target ? "page" : undefined}>
            <Icon size={18} aria-hidden="true" />
            <span>{label}</span>
            {target === "activity" && waiting > 0 && (
              <span className="nav-count" aria-label={`${waiting} in the queue`}>
                {waiting}
              </span>
            )}
          </a>
        ))}
      </nav>
      <div className="header-end">
        <ConnectionPill />
        <ThemeButton />
      </div>
    </header>
  );
}

const WORDS: Record<Connection, string> = {
  connecting: "Connecting",
  live: "Connected",
  reconnecting: "Reconnecting",
  down: "Offline",
};

function ConnectionPill() {
  const connection = useStore((app) => app.connection);
  return (
    <span className={`pill pill-${connection}`} role="status" aria-label={`Server: ${WORDS[connection]}`}>
      <span className="pill-dot" aria-hidden="true" />
      <span className="pill-text">{WORDS[connection]}</span>
    </span>
  );
}

function ThemeButton() {
  const [theme, setTheme] = useTheme();
  const next = theme === "system" ? "light" : theme === "light" ? "dark" : "system";
  const Icon = theme === "system" ? Monitor : theme === "light" ? Sun : Moon;
  const names = { system: "as the system", light: "light", dark: "dark" };
  return <IconButton label={`Colours: ${names[theme]}. Change to ${names[next]}`} icon={<Icon size={18} aria-hidden="true" />} onClick={() => setTheme(next)} />;
}

export function DownBanner() {
  const connection = useStore((app) => app.connection);
  const signedOut = useStore((app) => app.signedOut);
  const [busy, setBusy] = useState(false);
  if (signedOut) return <SignInBanner />;
  if (connection !== "down" && connection !== "reconnecting") return null;
  const tryAgain = () => {
    setBusy(true);
    void retry().finally(() => setBusy(false));
  };
  return (
    <div className={`banner banner-${connection}`} role="alert">
      <p>
        {connection === "down" ? (
          <>
            <strong>The server does not answer.</strong> Your workflow is safe in this browser. This page tries again by itself; if the server was stopped, start it with <code>vivarium serve</code>.
          </>
        ) : (
          <>
            <strong>Live updates are interrupted.</strong> Runs go on; progress shows again as soon as the connection is back.
          </>
        )}
      </p>
      <Button onClick={tryAgain} disabled={busy}>
        {busy ? "Trying…" : "Retry now"}
      </Button>
    </div>
  );
}

/** The token is typed on a page of the server's own, where no script of this page can read it. */
function SignInBanner() {
  return (
    <div className="banner banner-reconnecting" role="alert">
      <p>
        <strong>This server wants a token.</strong> You are not signed in, or no longer. Your workflow is safe in this browser; its operator makes tokens with <code>vivarium tenant token add</code>.
      </p>
      <a className="button button-primary" href="./login">
        Sign in
      </a>
    </div>
  );
}

import { useCallback, useEffect, useState } from "react";
import { recallTheme, rememberTheme } from "../state/memory";
import type { Theme } from "../state/memory";
import { messageOf, noteFailure } from "../state/server-actions";
import { useStore } from "../state/store";

export const VIEWS = ["workflow", "gallery", "activity", "packs", "server"] as const;
export type View = (typeof VIEWS)[number];

/** The view named by the address: `#/gallery`. */
export function useView(): View {
  const [view, setView] = useState(viewFromAddress);
  useEffect(() => {
    const update = () => setView(viewFromAddress());
    window.addEventListener("hashchange", update);
    return () => window.removeEventListener("hashchange", update);
  }, []);
  return view;
}

function viewFromAddress(): View {
  const name = location.hash.replace(/^#\/?/, "");
  return VIEWS.find((view) => view === name) ?? "workflow";
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState(recallTheme);
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    rememberTheme(theme);
  }, [theme]);
  return [theme, setTheme];
}

export interface Resource<T> {
  data: T | null;
  error: string | null;
  loading: boolean;
  reload: () => void;
}

/** Something to fetch, again after each reconnect, when `version` changes and, with `everyMs`, regularly while the page is seen. */
export function useResource<T>(load: () => Promise<T>, { everyMs, version }: { everyMs?: number; version?: number } = {}): Resource<T> {
  const [state, setState] = useState<{ data: T | null; error: string | null; loading: boolean }>({ data: null, error: null, loading: true });
  const connected = useStore((app) => app.connection === "live");
  const reload = useCallback(() => {
    load().then(
      (data) => setState({ data, error: null, loading: false }),
      (error: unknown) => {
        noteFailure(error);
        setState((old) => ({ data: old.data, error: messageOf(error), loading: false }));
      },
    );
  }, [load]);
  useEffect(reload, [reload, connected, version]);
  useEffect(() => {
    if (!everyMs) return undefined;
    const timer = window.setInterval(() => {
      if (document.visibilityState === "visible") reload();
    }, everyMs);
    return () => window.clearInterval(timer);
  }, [reload, everyMs]);
  return { ...state, reload };
}

/** The present time, renewed regularly while `active`. */
export function useNow(active: boolean, everyMs = 500): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!active) return undefined;
    const timer = window.setInterval(() => setNow(Date.now()), everyMs);
    return () => window.clearInterval(timer);
  }, [active, everyMs]);
  return now;
}

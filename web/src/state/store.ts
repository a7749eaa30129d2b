/** Everything the page knows, in one place. Changes happen in the two `…-actions.ts` files beside this one. */
import { create } from "zustand";
import type { Run } from "../lib/run";
import type { ApiError, HistoryEntry, NodeErrors, ObjectInfo, Queue } from "../lib/types";
import type { WorkflowDocument } from "../lib/workflow";

/** `live`: all is well. `reconnecting`: the server answers but live updates are cut. `down`: it does not answer. */
export type Connection = "connecting" | "live" | "reconnecting" | "down";

export interface Preview {
  /** An object URL, or null before the first preview. */
  url: string;
  nodeId: string | null;
  runId: string;
}

export interface AppState {
  connection: Connection;
  objectInfo: ObjectInfo | null;
  objectInfoError: string | null;
  /** Goes up when the server has other packs than before. */
  packsVersion: number;
  document: WorkflowDocument | null;
  submitting: boolean;
  refusal: { error: ApiError; nodeErrors: NodeErrors } | null;
  /** Errors of outputs that were left out while the rest of the prompt was queued. */
  partialErrors: NodeErrors;
  runs: Record<string, Run>;
  /** The run that the stage shows. */
  shownRun: string | null;
  preview: Preview | null;
  queue: Queue | null;
  history: HistoryEntry[] | null;
  historyError: string | null;
  historyCount: number;
  hasExample: boolean;
  /** The server wants a token, and this browser has shown none, or one that counts no longer. */
  signedOut: boolean;
}

export const HISTORY_PAGE = 60;

export const useStore = create<AppState>(() => ({
  connection: "connecting",
  objectInfo: null,
  objectInfoError: null,
  packsVersion: 0,
  document: null,
  submitting: false,
  refusal: null,
  partialErrors: {},
  runs: {},
  shownRun: null,
  preview: null,
  queue: null,
  history: null,
  historyError: null,
  historyCount: HISTORY_PAGE,
  hasExample: false,
  signedOut: false,
}));

export const getState = useStore.getState;
export const setState = useStore.setState;

/** Short messages that pass by. */
import { Toast } from "@base-ui/react/toast";

export const toastManager = Toast.createToastManager();

export function tell(title: string, description?: string): void {
  toastManager.add({ title, ...(description === undefined ? {} : { description }) });
}

/** Says what went wrong; stays until it is closed. */
export function tellError(title: string, error: unknown): void {
  const description = error instanceof Error ? error.message : String(error);
  toastManager.add({ title, description, type: "error", timeout: 0, priority: "high" });
}

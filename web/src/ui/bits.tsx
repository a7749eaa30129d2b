/** Small parts that every view uses. */
import { AlertDialog } from "@base-ui/react/alert-dialog";
import { Meter } from "@base-ui/react/meter";
import { Progress } from "@base-ui/react/progress";
import type { ButtonHTMLAttributes, ReactNode } from "react";

type Variant = "primary" | "plain" | "quiet" | "danger";

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  variant?: Variant;
  icon?: ReactNode;
}

export function Button({ variant = "plain", icon, children, className, ...rest }: ButtonProps) {
  return (
    <button type="button" className={classes("button", `button-${variant}`, className)} {...rest}>
      {icon}
      <span>{children}</span>
    </button>
  );
}

interface IconButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  label: string;
  icon: ReactNode;
}

/** A button with a picture only; `label` is what a screen reader and the tooltip say. */
export function IconButton({ label, icon, className, ...rest }: IconButtonProps) {
  return (
    <button type="button" className={classes("icon-button", className)} aria-label={label} title={label} {...rest}>
      {icon}
    </button>
  );
}

export type Tone = "neutral" | "good" | "busy" | "bad" | "warn";

export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`badge badge-${tone}`}>{children}</span>;
}

export function Empty({ icon, title, children }: { icon: ReactNode; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <div className="empty-icon" aria-hidden="true">
        {icon}
      </div>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Notice({ tone, title, children, actions }: { tone: "bad" | "warn" | "info"; title: string; children?: ReactNode; actions?: ReactNode }) {
  return (
    <div className={`notice notice-${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <p className="notice-title">{title}</p>
      {children}
      {actions && <div className="notice-actions">{actions}</div>}
    </div>
  );
}

export function ProgressBar({ label, value, hideLabel = false }: { label: string; value: number | null; hideLabel?: boolean }) {
  return (
    <Progress.Root className="progress" value={value === null ? null : Math.round(value * 100)} aria-label={hideLabel ? label : undefined}>
      {!hideLabel && <Progress.Label className="progress-label">{label}</Progress.Label>}
      <Progress.Track className="progress-track">
        <Progress.Indicator className="progress-indicator" />
      </Progress.Track>
    </Progress.Root>
  );
}

/** How full something is. Turns to a warning colour near its end. */
export function UsageMeter({ label, used, total, text }: { label: string; used: number; total: number; text: string }) {
  const share = total > 0 ? Math.min(1, used / total) : 0;
  return (
    <Meter.Root className="meter" value={Math.round(share * 100)} aria-valuetext={text} data-high={share > 0.9 || undefined}>
      <Meter.Label className="meter-label">{label}</Meter.Label>
      <span className="meter-text">{text}</span>
      <Meter.Track className="meter-track">
        <Meter.Indicator className="meter-indicator" />
      </Meter.Track>
    </Meter.Root>
  );
}

interface ConfirmProps {
  trigger: ReactNode;
  triggerClass?: string;
  title: string;
  text: string;
  confirm: string;
  disabled?: boolean;
  onConfirm: () => void;
}

/** A button that asks before it does something that cannot be undone. */
export function Confirm({ trigger, triggerClass, title, text, confirm, disabled, onConfirm }: ConfirmProps) {
  return (
    <AlertDialog.Root>
      <AlertDialog.Trigger className={triggerClass ?? "button button-quiet"} disabled={disabled ?? false}>
        {trigger}
      </AlertDialog.Trigger>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="dialog-backdrop" />
        <AlertDialog.Popup className="dialog">
          <AlertDialog.Title className="dialog-title">{title}</AlertDialog.Title>
          <AlertDialog.Description className="dialog-text">{text}</AlertDialog.Description>
          <div className="dialog-actions">
            <AlertDialog.Close className="button button-plain">Keep</AlertDialog.Close>
            <AlertDialog.Close className="button button-danger" onClick={onConfirm}>
              {confirm}
            </AlertDialog.Close>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}

export function Skeleton({ lines = 3 }: { lines?: number }) {
  return (
    <div className="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => (
        <div key={index} className="skeleton-line" />
      ))}
    </div>
  );
}

export function classes(...names: (string | false | null | undefined)[]): string {
  return names.filter(Boolean).join(" ");
}

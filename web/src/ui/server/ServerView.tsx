import { Eraser, LogOut } from "lucide-react";
import { freeMemory, getLimits, getSystemStats, RequestError } from "../../api/client";
import { formatAmount, formatBytes, formatShare, humanName } from "../../lib/format";
import type { Device, Limit, SystemStats } from "../../lib/types";
import { doAndRefresh } from "../../state/server-actions";
import { tell } from "../../state/toasts";
import { Button, Notice, Skeleton, UsageMeter } from "../bits";
import { useResource } from "../hooks";

const REFRESH_MS = 4_000;

async function loadLimits(): Promise<Limit[]> {
  try {
    return await getLimits();
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) return [];
    throw error;
  }
}

export function ServerView() {
  const stats = useResource(getSystemStats, { everyMs: REFRESH_MS });
  const limits = useResource(loadLimits, { everyMs: REFRESH_MS });
  return (
    <>
      <h1 className="view-title">Server</h1>
      <div className="server-grid">
        <section className="card" aria-labelledby="memory-title">
          <h2 id="memory-title">Memory</h2>
          <Failure error={stats.error} reload={stats.reload} />
          {stats.loading && <Skeleton />}
          {stats.data && <Memory stats={stats.data} />}
        </section>
        <section className="card" aria-labelledby="about-title">
          <h2 id="about-title">About</h2>
          {stats.data && <About stats={stats.data} />}
          <p className="small">
            <a href="./licenses.txt">Licences of the parts of this page</a>
          </p>
          {limits.data?.some((limit) => limit.name.startsWith("quota_")) && <SignOut />}
        </section>
        <section className="card server-limits" aria-labelledby="limits-title">
          <h2 id="limits-title">Limits</h2>
          <Failure error={limits.error} reload={limits.reload} />
          {limits.loading && <Skeleton />}
          {limits.data?.length === 0 && <p className="muted">This server does not tell about its limits.</p>}
          <ul className="limits">{inUseFirst(limits.data ?? []).map((limit) => <LimitRow key={limit.name} limit={limit} />)}</ul>
        </section>
      </div>
    </>
  );
}

/** Only a server with tenants has quotas, and only there somebody is signed in. */
function SignOut() {
  return (
    <form method="post" action="./logout">
      <button type="submit" className="button button-plain">
        <LogOut size={16} aria-hidden="true" />
        <span>Sign out</span>
      </button>
    </form>
  );
}

function Failure({ error, reload }: { error: string | null; reload: () => void }) {
  if (!error) return null;
  return (
    <Notice tone="bad" title="This could not be loaded" actions={<Button onClick={reload}>Try again</Button>}>
      <p>{error}</p>
    </Notice>
  );
}

function Memory({ stats }: { stats: SystemStats }) {
  const { ram_total: total, ram_free: free } = stats.system;
  const release = () =>
    void doAndRefresh("Memory could not be freed", async () => {
      await freeMemory();
      tell("Asked the server to free memory", "It does so as soon as no run is using it.");
    });
  return (
    <>
      <UsageMeter label="Main memory of the machine" used={total - free} total={total} text={`${formatBytes(total - free)} of ${formatBytes(total)}`} />
      {stats.devices.filter((device) => device.type !== "cpu").map((device) => (
        <DeviceMeter key={device.name} device={device} />
      ))}
      <p>
        <Button icon={<Eraser size={16} aria-hidden="true" />} onClick={release}>
          Free memory
        </Button>
      </p>
      <p className="muted small">Drops kept results and unloads models. Nothing saved is touched.</p>
    </>
  );
}

function DeviceMeter({ device }: { device: Device }) {
  const used = device.vram_total - device.vram_free;
  return <UsageMeter label={device.name} used={used} total={device.vram_total} text={`${formatBytes(used)} of ${formatBytes(device.vram_total)}`} />;
}

function About({ stats }: { stats: SystemStats }) {
  const { system, devices } = stats;
  const rows: [string, string][] = [
    ["Vivarium", text(system.vivarium_version) ?? "version not told"],
    ["Speaks the protocol of", system.comfyui_version ? `ComfyUI ${system.comfyui_version}` : "unknown"],
    ["Computes on", devices.map((device) => device.name).join(", ") || "unknown"],
    ["System", system.os],
  ];
  return (
    <dl className="about">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function inUseFirst(limits: Limit[]): Limit[] {
  const isUsed = ({ used }: Limit) => used !== undefined && used !== null;
  return [...limits.filter(isUsed), ...limits.filter((limit) => !isUsed(limit))];
}

function LimitRow({ limit }: { limit: Limit }) {
  const amount = formatAmount(limit.value, limit.unit);
  const used = limit.used ?? null;
  return (
    <li>
      {used === null ? (
        <div className="limit-top">
          <span>{humanName(limit.name)}</span>
          <span className="limit-value">{amount}</span>
        </div>
      ) : (
        <UsageMeter label={humanName(limit.name)} used={used} total={limit.value} text={formatShare(used, limit.value, limit.unit)} />
      )}
      <p className="muted small sentence">{limit.description}</p>
    </li>
  );
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

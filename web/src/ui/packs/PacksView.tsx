import { Check, CircleSlash, Package, ShieldCheck, ShieldOff } from "lucide-react";
import { getPacks, RequestError } from "../../api/client";
import { plural } from "../../lib/format";
import { useStore } from "../../state/store";
import { abilities, permissionWords } from "../../lib/pack-words";
import type { Pack, PackPermission } from "../../lib/types";
import { Badge, Button, Empty, Notice, Skeleton } from "../bits";
import { useResource } from "../hooks";

/** A server without this route is not an error to shout about. */
async function loadPacks(): Promise<Pack[] | "untold"> {
  try {
    return await getPacks();
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) return "untold";
    throw error;
  }
}

export function PacksView() {
  const { data, error, loading, reload } = useResource(loadPacks, { version: useStore((app) => app.packsVersion) });
  return (
    <>
      <div className="view-heading">
        <h1>Packs</h1>
        {Array.isArray(data) && data.length > 0 && (
          <p className="muted">
            {plural(data.length, "pack")}, {plural(data.reduce((sum, pack) => sum + pack.nodes.length, 0), "node")}
          </p>
        )}
      </div>
      <p className="view-lead">
        A pack brings nodes. It runs in a sandbox without files, network or other programs, and can do only what is listed here.
      </p>
      {error && (
        <Notice tone="bad" title="The packs could not be listed" actions={<Button onClick={reload}>Try again</Button>}>
          <p>{error}</p>
        </Notice>
      )}
      {loading && <Skeleton />}
      {data === "untold" && <Empty icon={<Package size={36} strokeWidth={1.4} />} title="This server does not tell about its packs" />}
      {Array.isArray(data) && data.length === 0 && (
        <Empty icon={<Package size={36} strokeWidth={1.4} />} title="No packs installed">
          <p className="muted">Put a pack&rsquo;s .wasm file into the server&rsquo;s packs folder.</p>
        </Empty>
      )}
      <ul className="packs">{Array.isArray(data) && data.map((pack) => <PackCard key={pack.digest + pack.file} pack={pack} />)}</ul>
    </>
  );
}

function PackCard({ pack }: { pack: Pack }) {
  const failed = pack.status === "failed";
  return (
    <li className="card pack" data-failed={failed || undefined}>
      <header className="pack-header">
        <div>
          <h2>{pack.name || pack.file}</h2>
          <p className="muted small">{[pack.version && `version ${pack.version}`, pack.publisher && `by ${pack.publisher}`, pack.license].filter(Boolean).join(" · ")}</p>
        </div>
        <Badge tone={failed ? "bad" : "good"}>{failed ? "Could not be loaded" : "Ready"}</Badge>
      </header>
      {pack.description && <p>{pack.description}</p>}
      {failed && (
        <p className="field-error pre" role="alert">
          {pack.error ?? "The server gave no reason."}
        </p>
      )}
      {!failed && <Abilities pack={pack} />}
      {pack.nodes.length > 0 && <PackNodes nodes={pack.nodes} />}
      <details className="extra">
        <summary>Technical details</summary>
        <dl>
          <Detail name="File" value={pack.file} />
          <Detail name="Digest" value={pack.digest} />
          <Detail name="Interfaces" value={pack.imports.join(", ") || "none"} />
        </dl>
      </details>
    </li>
  );
}

function Abilities({ pack }: { pack: Pack }) {
  const granted = pack.permissions.filter((permission) => permission.granted);
  const refused = pack.permissions.filter((permission) => !permission.granted);
  const able = abilities(pack);
  return (
    <div className="abilities">
      <h3>It may</h3>
      <ul>
        {able.map((sentence) => (
          <li key={sentence}>
            <Check size={15} aria-hidden="true" /> <span>{sentence}</span>
          </li>
        ))}
        {granted.map((permission) => (
          <PermissionLine key={permission.permission} permission={permission} />
        ))}
        {able.length + granted.length === 0 && <li className="muted">do nothing but compute with what it is given.</li>}
      </ul>
      {refused.length > 0 && (
        <>
          <h3>It asked for, and does not have</h3>
          <ul>
            {refused.map((permission) => (
              <PermissionLine key={permission.permission} permission={permission} />
            ))}
          </ul>
        </>
      )}
      {pack.permissions.length === 0 && (
        <p className="muted small pack-none">
          <CircleSlash size={14} aria-hidden="true" /> It asks for no further permission.
        </p>
      )}
    </div>
  );
}

function PermissionLine({ permission }: { permission: PackPermission }) {
  const Icon = permission.granted ? ShieldCheck : ShieldOff;
  return (
    <li className={permission.granted ? "permission-granted" : "permission-refused"}>
      <Icon size={15} aria-hidden="true" />
      <span>
        {permissionWords(permission.permission)}
        {permission.reason && <span className="muted"> (its reason: {permission.reason})</span>}
      </span>
    </li>
  );
}

function PackNodes({ nodes }: { nodes: string[] }) {
  return (
    <div>
      <h3>Nodes</h3>
      <ul className="chips">
        {nodes.map((node) => (
          <li key={node}>{node}</li>
        ))}
      </ul>
    </div>
  );
}

function Detail({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <code>{value}</code>
      </dd>
    </div>
  );
}

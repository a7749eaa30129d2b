//! `vivarium pack list`, which is `vivarium packs` too: what is there, and what it may do.

use clap::Args;
use serde_json::{Value, json};
use vivarium_packs::{Grants, InstalledPack, store::PackStore};
use vivarium_protocol::tenant::TenantId;

use crate::{
    failure::{Exit, Outcome, fail},
    host,
    options::{GrantOptions, LimitOptions, SourceOptions},
    output::say,
    text::{one_line, printable},
};

/// List the node packs, what they offer and what they may do.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack list
  vivarium pack list --packs-directory ~/my-packs --json

Packs are installed (`vivarium pack install`), or lie in a folder of packs: the stock packs, and those that are being
written. A pack that can't be used is listed with the reason, and the exit code is 1.")]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    grants: GrantOptions,
}

impl List {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let (_engine, catalog) = host::load_packs(&folders, self.limits.resolve_in(&folders)?)?;
        let snapshot = catalog.snapshot();
        let grants = self.grants.resolve().with_store(PackStore::at(folders.installed()));
        let packs: Vec<Value> = snapshot.packs().iter().map(|pack| describe(pack, &grants)).collect();
        if self.json {
            say!("{}", Value::Array(packs));
        } else {
            print(&packs, &folders.packs);
        }
        match snapshot.packs().iter().filter(|pack| pack.component.is_err()).count() {
            0 => Ok(()),
            failed => fail!(Exit::Work, "{failed} of {} packs can't be used", snapshot.packs().len()),
        }
    }
}

fn describe(pack: &InstalledPack, grants: &Grants) -> Value {
    let path = &pack.path;
    let component = match &pack.component {
        Ok(component) => component,
        Err(error) => return json!({"file": path, "status": "failed", "error": error.to_string()}),
    };
    let definition = component.definition();
    let tenant = TenantId::default_tenant();
    let permissions = pack.requests().into_iter().map(|request| {
        let granted = grants.allows(&tenant, &definition.name, &request.permission);
        json!({"permission": request.permission, "reason": request.reason, "granted": granted})
    });
    json!({
        "name": definition.name,
        "version": definition.version,
        "publisher": definition.publisher,
        "description": definition.description,
        "license": definition.license,
        "file": path,
        "digest": component.digest(),
        "installed": pack.installed,
        "signer": pack.signer,
        "status": "ready",
        "nodes": definition.nodes.iter().map(|node| &node.class_type).collect::<Vec<_>>(),
        "permissions": permissions.collect::<Vec<_>>(),
        "imports": component.imports(),
    })
}

fn print(packs: &[Value], folders: &[std::path::PathBuf]) {
    if packs.is_empty() {
        say!("There are no packs in:");
        folders.iter().for_each(|folder| say!("  {}", folder.display()));
        return;
    }
    for pack in packs {
        let text = |key: &str| one_line(pack[key].as_str().unwrap_or_default(), 300);
        if pack["status"] == "failed" {
            say!("{}\n  FAILED: {}", text("file"), printable(pack["error"].as_str().unwrap_or_default()));
            continue;
        }
        say!("{} {} ({})", text("name"), text("version"), text("license"));
        if !text("description").is_empty() {
            say!("  {}", text("description"));
        }
        say!("  nodes:  {}", names(&pack["nodes"]));
        say!("  file:   {}", text("file"));
        say!("  sha256: {}", text("digest"));
        match pack["signer"].as_str() {
            Some(key) => say!("  signed: {key}"),
            None if pack["installed"] == true => say!("  signed: NO"),
            None => {}
        }
        for permission in pack["permissions"].as_array().into_iter().flatten() {
            let fate = if permission["granted"] == true { "granted" } else { "NOT granted" };
            let field = |key: &str| one_line(permission[key].as_str().unwrap_or_default(), 200);
            say!("  asks for {} ({fate}): {}", field("permission"), field("reason"));
        }
    }
}

fn names(list: &Value) -> String {
    let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    printable(&names.collect::<Vec<_>>().join(", "))
}

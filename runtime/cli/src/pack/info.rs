//! `vivarium pack info`: everything about one installed pack.

use clap::Args;
use serde_json::{Value, json};
use vivarium_packs::{
    PackError,
    store::{Grantee, PackStore},
};

use super::{examined::Examined, source::read_file, words};
use crate::{
    failure::{Exit, OrFail, Outcome},
    host,
    options::{LimitOptions, SourceOptions},
    output::say,
};

/// Show an installed pack and what it was granted.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack info some-pack
  vivarium pack info some-pack --json

`vivarium pack check FILE` shows a pack that is not installed.")]
pub(crate) struct Info {
    /// Its name
    name: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl Info {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let limits = self.limits.resolve_in(&folders)?;
        let store = PackStore::at(folders.installed());
        let state = store.read().or_fail(Exit::Machine, || "could not read the installed packs")?;
        let Some(installed) = state.installed.get(&self.name) else {
            return Err(PackError::NotInstalled { name: self.name }).or_fail(Exit::Work, || "there is nothing to show");
        };
        let file = read_file(&store.file(&installed.digest), limits.component_bytes)?;
        let examined = Examined::on(&host::sandbox(limits, Some(folders.compiled()))?, file)?;
        let (file, manifest, component) = (&examined.file, examined.manifest(), &examined.component);
        let grants: Vec<(&Grantee, String)> =
            state.grants_of(&self.name).map(|(grantee, permission)| (grantee, permission.to_string())).collect();
        if self.json {
            let mut described = words::describe(file, manifest, component);
            described["source"] = json!(installed.source);
            described["installed"] = json!(installed.installed);
            described["granted"] = grants
                .iter()
                .map(|(grantee, permission)| json!({"to": grantee, "permission": permission}))
                .collect::<Vec<Value>>()
                .into();
            say!("{described}");
            return Ok(());
        }
        words::print(file, manifest, component);
        say!("  from {}", crate::text::one_line(&installed.source, 300));
        for (grantee, permission) in grants {
            say!("  granted: {permission} for {}", String::from(grantee.clone()));
        }
        Ok(())
    }
}

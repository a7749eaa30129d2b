//! `vivarium pack update`: the packs again, from where they came.

use clap::Args;

use super::{
    examined::Examined,
    install::{ConsentOptions, Plan},
    source::Source,
};
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host,
    options::{LimitOptions, NetworkOptions, SourceOptions},
    output::say,
};
use vivarium_packs::{PackError, store::PackStore};

/// Install newer versions of packs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack update                                every pack, from where it came
  vivarium pack update some-pack
  vivarium pack update some-pack --from some-pack-1.3.0.wasm

Grants stay, but those of permissions that the new version no longer asks for. A version that asks for more is installed only
after you said so; nothing new is granted by that either.")]
pub(crate) struct Update {
    /// Only this pack
    name: Option<String>,

    /// From here, and from here on
    #[arg(long, value_name = "SOURCE", requires = "name")]
    from: Option<String>,

    #[command(flatten)]
    consent: ConsentOptions,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    network: NetworkOptions,
}

impl Update {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let limits = self.limits.resolve_in(&folders)?;
        let state = PackStore::at(folders.installed())
            .read()
            .or_fail(Exit::Machine, || "could not read the installed packs")?;
        if let Some(name) = &self.name
            && !state.installed.contains_key(name)
        {
            return Err(PackError::NotInstalled { name: name.clone() }).or_fail(Exit::Work, || "nothing was changed");
        }
        let (engine, catalog) = host::load_packs(&folders, limits.clone())?;
        let mut failed = 0;
        let wanted = state.installed.iter().filter(|(name, _)| self.name.as_ref().is_none_or(|wanted| wanted == *name));
        for (name, installed) in wanted {
            let update = || {
                let source = Source::parse(self.from.as_deref().unwrap_or(&installed.source))?;
                let file = source.read(None, limits.component_bytes, &self.network)?;
                if file.digest() == installed.digest {
                    eprintln!("{name} {} is what is there already.", installed.version);
                    return Ok(());
                }
                if file.manifest().is_some_and(|manifest| manifest.name != *name) {
                    fail!(Exit::Work, "{} is another pack, not {name}", source.lasting());
                }
                let examined = Examined::on(&engine, file)?;
                let plan = Plan { examined: &examined, source: source.lasting(), catalog: &catalog, folders: &folders };
                plan.install(&self.consent, |_| Ok(()))
            };
            if let Err(failure) = update() {
                // One pack that can't be updated does not hold up the others.
                eprintln!("{name}: {failure}");
                failed += 1;
            }
        }
        if state.installed.is_empty() {
            say!("No pack is installed.");
        }
        match failed {
            0 => Ok(()),
            _ => fail!(Exit::Work, "{failed} packs could not be updated"),
        }
    }
}

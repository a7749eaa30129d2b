//! `vivarium pack remove`.

use clap::Args;
use vivarium_blobs::ScratchFolders;
use vivarium_packs::{PackError, store::PackStore};

use crate::{
    failure::{Exit, OrFail, Outcome},
    options::SourceOptions,
    output::say,
};

/// Remove an installed pack, all that it was granted, and its scratch files.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack remove some-pack
  vivarium pack remove some-pack --forget-key      the next pack of this name may be signed by somebody else

A prompt that runs keeps the pack to its end.")]
pub(crate) struct Remove {
    /// Its name
    name: String,

    /// Forget who may publish under this name, and which versions were there
    #[arg(long)]
    forget_key: bool,

    #[command(flatten)]
    folders: SourceOptions,
}

impl Remove {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let store = PackStore::at(folders.installed());
        let name = &self.name;
        let removed = store.change(|state| {
            let removed = state.remove(name);
            if self.forget_key && state.known.remove(name).is_some() {
                return Ok(removed.ok());
            }
            removed.map(Some)
        });
        let exit = if matches!(removed, Err(PackError::NotInstalled { .. })) { Exit::Work } else { Exit::Machine };
        let removed = removed.or_fail(exit, || "nothing was changed")?;
        ScratchFolders::at(folders.scratch())
            .remove_pack(name)
            .or_fail(Exit::Machine, || format!("{name} is removed, but not its scratch files"))?;
        match removed {
            Some(removed) => say!("{name} {} is removed.", removed.version),
            None => say!("The key of {name} is forgotten."),
        }
        Ok(())
    }
}

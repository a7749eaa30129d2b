//! A pack file whose component has been compiled, asked for its description in the sandbox, and held against its manifest.

use std::{path::PathBuf, sync::Arc};

use vivarium_packs::{examine, file::PackFile, manifest::Manifest};
use vivarium_sandbox::{Limits, PackComponent, SandboxEngine};

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host,
};

/// See the module.
pub(super) struct Examined {
    pub(super) file: PackFile,
    pub(super) component: Arc<PackComponent>,
    manifest: Manifest,
}

impl Examined {
    /// Examines a file; nothing is kept.
    ///
    /// # Errors
    /// Says why it can't be installed anywhere.
    pub(super) fn new(file: PackFile, limits: Limits) -> Outcome<Self> {
        Self::on(&host::sandbox(limits, None::<PathBuf>)?, file)
    }

    /// Examines a file with a sandbox that may keep the compiled component.
    ///
    /// # Errors
    /// As [`Examined::new`].
    pub(super) fn on(engine: &Arc<SandboxEngine>, file: PackFile) -> Outcome<Self> {
        let Some(manifest) = file.manifest().cloned() else {
            fail!(
                Exit::Work,
                "it is a bare component without a manifest: put it into a folder of packs to try it, or make a pack of it \
                 with `vivarium pack build`"
            );
        };
        let component = engine.load(file.bytes()).or_fail(Exit::Work, || "its component is refused")?;
        examine::agree(&manifest, &component).or_fail(Exit::Work, || "its manifest and its component disagree")?;
        Ok(Self { file, component, manifest })
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

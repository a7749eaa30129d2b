//! `vivarium pack push`: into an OCI registry.

use std::path::PathBuf;

use clap::Args;

use super::{
    oci::{self, Reference},
    source::read_file,
};
use crate::{
    failure::{Exit, Outcome, fail},
    options::{LimitOptions, NetworkOptions},
    output::say,
};

/// Store a signed pack in an OCI registry.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docker login ghcr.io
  vivarium pack push some-pack-1.2.0.wasm oci://ghcr.io/me/some-pack:1.2.0
  vivarium pack install oci://ghcr.io/me/some-pack:1.2.0

Names and passwords are those that `docker login` keeps (~/.docker/config.json, or in $DOCKER_CONFIG). The digest that it prints
is that of the manifest: `oci://…@sha256:…` names exactly this version.")]
pub(crate) struct Push {
    /// The pack file
    file: PathBuf,

    /// Where to: oci://REGISTRY/REPOSITORY:TAG
    reference: Reference,

    /// Push a pack that nobody signed
    #[arg(long)]
    allow_unsigned: bool,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    network: NetworkOptions,
}

impl Push {
    pub(crate) fn run(self) -> Outcome<()> {
        let file = read_file(&self.file, self.limits.resolve()?.component_bytes)?;
        if file.signer().is_none() && !self.allow_unsigned {
            fail!(Exit::Work, "{} is not signed; `vivarium pack sign` signs it", self.file.display());
        }
        self.network.may_ask(&self.reference.to_string())?;
        say!("{}", oci::push(&self.reference, file.bytes())?);
        Ok(())
    }
}

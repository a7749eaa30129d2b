//! `vivarium pack check`: what is in a pack, without installing it.

use clap::Args;

use super::{examined::Examined, source::Source, words};
use crate::{
    failure::Outcome,
    options::{LimitOptions, NetworkOptions},
    output::say,
};

/// Show what a pack holds and asks for; installs nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack check some-pack-1.2.0.wasm
  vivarium pack check https://example.org/some-pack-1.2.0.wasm --json
  vivarium pack check .

The file is read within bounds, its signature verified, its component compiled by a process with limits, and asked for its
node definitions in a sandbox without any power. The exit code is 1 when it can't be installed anywhere.")]
pub(crate) struct Check {
    /// A file, a folder with pack.toml, an address, or oci://REGISTRY/REPOSITORY:TAG
    source: String,

    /// The SHA-256 that it has to have
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    network: NetworkOptions,
}

impl Check {
    pub(crate) fn run(self) -> Outcome<()> {
        let limits = self.limits.resolve()?;
        let file = Source::parse(&self.source)?.read(self.digest.as_deref(), limits.component_bytes, &self.network)?;
        let examined = Examined::new(file, limits)?;
        let (file, manifest, component) = (&examined.file, examined.manifest(), &examined.component);
        if self.json {
            say!("{}", words::describe(file, manifest, component));
        } else {
            words::print(file, manifest, component);
        }
        Ok(())
    }
}

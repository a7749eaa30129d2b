//! `vivarium pack secret`: what a tenant keeps for packs that it trusts with it.

use std::io::{IsTerminal, Read, stdin};

use clap::{Args, Subcommand};
use vivarium_packs::secrets::{SECRET_BYTES, SecretFile};
use vivarium_protocol::tenant::TenantId;

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    options::SourceOptions,
    output::say,
};

/// Shorter ones can't be removed from logs without making nonsense of them.
const SHORTEST: usize = 8;

/// Keep secrets for packs, such as the key of a service.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack secret set huggingface < token.txt
  vivarium pack grant some-pack secret/huggingface
  vivarium pack secret list

A secret is read from standard input, so that it is in no list of processes and no history of a shell. A pack gets it only
with the permission; logs, errors and results of a node that has read it are cleaned of it.")]
pub(crate) struct Secret {
    #[command(subcommand)]
    action: Action,

    /// Whose it is
    #[arg(long, value_name = "NAME", global = true, default_value_t = TenantId::default_tenant())]
    tenant: TenantId,

    #[command(flatten)]
    folders: SourceOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Set a secret to what is on standard input
    Set {
        /// Its name
        name: String,
    },
    /// List the names of secrets
    List,
    /// Remove a secret
    Remove {
        /// Its name
        name: String,
    },
}

impl Secret {
    pub(crate) fn run(self) -> Outcome<()> {
        let file = SecretFile::at(self.folders.resolve()?.secrets());
        let failed = || "could not change the secrets";
        match self.action {
            Action::Set { name } => {
                file.set(&self.tenant, &name, Some(read_secret()?)).or_fail(Exit::Machine, failed)?;
                say!("{name} is set for {}.", self.tenant);
            }
            Action::List => {
                let names = file.names(&self.tenant).or_fail(Exit::Machine, || "could not read the secrets")?;
                names.iter().for_each(|name| say!("{name}"));
            }
            Action::Remove { name } => {
                if !file.set(&self.tenant, &name, None).or_fail(Exit::Machine, failed)? {
                    fail!(Exit::Work, "{} has no secret {name}", self.tenant);
                }
                say!("{name} is removed.");
            }
        }
        Ok(())
    }
}

fn read_secret() -> Outcome<String> {
    if stdin().is_terminal() {
        eprintln!("Type the secret, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    let most = SECRET_BYTES as u64 + 1;
    stdin().take(most).read_to_string(&mut text).or_fail(Exit::Machine, || "could not read the secret")?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.len() < SHORTEST || secret.len() >= SECRET_BYTES {
        fail!(Exit::Usage, "a secret has {SHORTEST} to {SECRET_BYTES} bytes, and standard input has {}", secret.len());
    }
    Ok(secret.to_owned())
}

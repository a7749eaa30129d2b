//! `vivarium pack grant` and `revoke`.

use clap::Args;
use serde_json::json;
use vivarium_packs::{
    PackError,
    store::{Grantee, PackState, PackStore},
};
use vivarium_protocol::{permission::Permission, tenant::TenantId};

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    options::SourceOptions,
    output::say,
};

/// For whom a pack may do something.
#[derive(Args, Clone, Debug)]
pub(super) struct TenantOptions {
    /// When it works for this tenant [default: default]
    #[arg(long, value_name = "NAME", conflicts_with = "every_tenant")]
    tenant: Option<TenantId>,

    /// When it works for anybody
    #[arg(long)]
    every_tenant: bool,
}

impl TenantOptions {
    pub(super) fn grantee(&self) -> Grantee {
        match (&self.tenant, self.every_tenant) {
            (_, true) => Grantee::EveryTenant,
            (Some(tenant), false) => Grantee::Tenant(tenant.clone()),
            (None, false) => Grantee::Tenant(TenantId::default_tenant()),
        }
    }

    /// Grants what an installed pack asks for.
    ///
    /// # Errors
    /// It is not installed, or does not ask for it.
    pub(super) fn grant(&self, state: &mut PackState, pack: &str, permission: &Permission) -> Result<(), PackError> {
        let installed = state.installed.get(pack).ok_or_else(|| PackError::NotInstalled { name: pack.to_owned() })?;
        if !installed.requests.iter().any(|request| request.permission == *permission) {
            return Err(PackError::NotAsked { pack: pack.to_owned(), permission: permission.clone() });
        }
        state.grant(self.grantee(), pack, permission.clone());
        Ok(())
    }
}

fn for_whom(grantee: &Grantee) -> String {
    match grantee {
        Grantee::EveryTenant => "everybody".to_owned(),
        Grantee::Tenant(tenant) => tenant.to_string(),
    }
}

/// Let an installed pack do something that it asks for.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack grant some-pack models/vae
  vivarium pack grant some-pack secret/huggingface --tenant alice

Permissions:
  models/FOLDER          list the files of a model folder and compute with them
  models/FOLDER/values   read their numbers back while it does
  http/HOST              send requests to api.example.org, *.example.org or 127.0.0.1:8080
  scratch                keep files of its own between prompts
  input/NAME             read a folder that the server was given (`vivarium serve --input-folder NAME=DIR`)
  secret/NAME            read one of the tenant's secrets (`vivarium pack secret set`)
  clock/fine             clocks of full precision

A running server notices within a second. For packs that only lie in a folder, use `vivarium serve --grant`.")]
pub(crate) struct GrantCommand {
    /// Its name
    pack: String,

    /// What it may do
    #[arg(required = true)]
    permission: Vec<Permission>,

    #[command(flatten)]
    tenant: TenantOptions,

    #[command(flatten)]
    folders: SourceOptions,
}

impl GrantCommand {
    pub(crate) fn run(self) -> Outcome<()> {
        let store = PackStore::at(self.folders.resolve()?.installed());
        let granted = store.change(|state| {
            self.permission.iter().try_for_each(|permission| self.tenant.grant(state, &self.pack, permission))
        });
        granted.or_fail(Exit::Work, || "nothing was changed")?;
        let whom = for_whom(&self.tenant.grantee());
        for permission in &self.permission {
            say!("{} may now {} for {whom}.", self.pack, permission.in_words());
        }
        Ok(())
    }
}

/// Take back what a pack was granted.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack revoke some-pack models/vae
  vivarium pack revoke some-pack --all --tenant alice

A running server notices within a second; a node that has opened a file keeps it to its end.")]
pub(crate) struct Revoke {
    /// Its name
    pack: String,

    /// What it may no longer do
    #[arg(required_unless_present = "all")]
    permission: Vec<Permission>,

    /// Everything
    #[arg(long, conflicts_with = "permission")]
    all: bool,

    #[command(flatten)]
    tenant: TenantOptions,

    #[command(flatten)]
    folders: SourceOptions,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Revoke {
    pub(crate) fn run(self) -> Outcome<()> {
        let store = PackStore::at(self.folders.resolve()?.installed());
        let grantee = self.tenant.grantee();
        let revoked = store.change(|state| {
            Ok(match self.all {
                true => state.revoke(&grantee, &self.pack, None),
                false => self.permission.iter().map(|one| state.revoke(&grantee, &self.pack, Some(one))).sum(),
            })
        });
        let revoked: usize = revoked.or_fail(Exit::Machine, || "nothing was changed")?;
        let whom = for_whom(&grantee);
        if self.json {
            say!("{}", json!({"pack": self.pack, "for": whom, "revoked": revoked}));
        } else if revoked == 0 {
            fail!(
                Exit::Work,
                "{} had none of that for {whom}; `vivarium pack info {}` shows what it has",
                self.pack,
                self.pack
            );
        } else {
            say!("{}: {revoked} permissions are revoked for {whom}.", self.pack);
        }
        Ok(())
    }
}

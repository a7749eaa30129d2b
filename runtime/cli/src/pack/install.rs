//! `vivarium pack install`: examines, shows, asks, installs.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};
use vivarium_packs::{
    Catalog, PackError,
    admission::{Consent, Refusal, admit},
    store::{PackState, PackStore},
};
use vivarium_protocol::permission::Permission;

use super::{examined::Examined, grant::TenantOptions, source::Source, words};
use crate::{
    failure::{Exit, OrFail, Outcome},
    host,
    options::{Folders, LimitOptions, NetworkOptions, SourceOptions},
    output::say,
};

/// Install a pack.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack install some-pack-1.2.0.wasm
  vivarium pack install https://example.org/some-pack-1.2.0.wasm --digest 9f86d0…
  vivarium pack install oci://ghcr.io/me/some-pack:1.2.0
  vivarium pack install some-pack-1.2.0.wasm --yes --grant models/vae
  vivarium pack install .                            the folder you are writing a pack in

It shows what the pack asks for and asks whether to install it. Installing grants nothing: --grant and `vivarium pack grant`
do. Whoever signed the first version that was installed is the only one whose later versions are taken. A running server
notices within a second.")]
pub(crate) struct Install {
    /// A file, a folder with pack.toml, an address, or oci://REGISTRY/REPOSITORY:TAG
    source: String,

    /// The SHA-256 that the file has to have
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,

    /// Grant one of the things that it asks for; may be repeated
    #[arg(long, value_name = "PERMISSION")]
    grant: Vec<Permission>,

    #[command(flatten)]
    pub(super) consent: ConsentOptions,

    #[command(flatten)]
    tenant: TenantOptions,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    network: NetworkOptions,
}

/// Answers given beforehand.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Answers beforehand")]
pub(super) struct ConsentOptions {
    /// Install without asking
    #[arg(long, short)]
    yes: bool,

    /// Install a pack that nobody signed
    #[arg(long)]
    allow_unsigned: bool,

    /// Install a lower version than was there, or other content under the same version
    #[arg(long)]
    allow_downgrade: bool,

    /// Install a version that asks for more than the one before
    #[arg(long)]
    accept_new_permissions: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl ConsentOptions {
    fn consent(&self) -> Consent {
        Consent {
            unsigned: self.allow_unsigned,
            downgrade: self.allow_downgrade,
            new_permissions: self.accept_new_permissions,
        }
    }
}

impl Install {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let limits = self.limits.resolve_in(&folders)?;
        let source = Source::parse(&self.source)?;
        let file = source.read(self.digest.as_deref(), limits.component_bytes, &self.network)?;
        let (engine, catalog) = host::load_packs(&folders, limits)?;
        let examined = Examined::on(&engine, file)?;
        let plan = Plan { examined: &examined, source: source.lasting(), catalog: &catalog, folders: &folders };
        plan.install(&self.consent, |state| {
            for permission in &self.grant {
                self.tenant.grant(state, &examined.manifest().name, permission)?;
            }
            Ok(())
        })
    }
}

/// An examined pack on its way into the store.
pub(super) struct Plan<'a> {
    pub(super) examined: &'a Examined,
    /// For the next update.
    pub(super) source: String,
    pub(super) catalog: &'a Catalog,
    pub(super) folders: &'a Folders,
}

impl Plan<'_> {
    /// Decides, asks, and installs; `also` is done in the same step.
    ///
    /// # Errors
    /// When something speaks against it, or somebody said no.
    pub(super) fn install(
        &self,
        options: &ConsentOptions,
        also: impl FnOnce(&mut PackState) -> Result<(), PackError>,
    ) -> Outcome<()> {
        let (file, manifest, component) = (&self.examined.file, self.examined.manifest(), &self.examined.component);
        let refused = || format!("{} {} is not installed", manifest.name, manifest.version);
        let store = PackStore::at(self.folders.installed());
        self.catalog.snapshot().check_room(component).or_fail(Exit::Work, refused)?;
        let before = store.read().or_fail(Exit::Machine, || "could not read the installed packs")?;
        if !options.json {
            words::print(file, manifest, component);
        }
        let mut consent = options.consent();
        match admit(file, manifest, &before, consent) {
            Ok(()) => {}
            // People are asked; what has to be decided by hand is not answered by --yes.
            Err(refusal @ Refusal::MorePermissions { .. }) => {
                if let Refusal::MorePermissions { version, requests } = &refusal {
                    eprintln!("Beyond version {version}, which is installed:");
                    words::print_requests(requests);
                }
                let asked = words::confirm("It asks for more than before. Go on?", "--accept-new-permissions");
                asked.or_else(|_| Err(refusal).or_fail(Exit::Work, refused))?;
                consent.new_permissions = true;
            }
            Err(refusal) => return Err(refusal).or_fail(Exit::Work, refused),
        }
        if !options.yes {
            words::confirm("Install it?", "--yes")?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let installed = store.keep(file).and_then(|()| {
            store.change(|state| {
                // Somebody else may have installed something meanwhile.
                admit(file, manifest, state, consent)?;
                state.install(file, self.source.clone(), now)?;
                also(state)
            })
        });
        installed.or_fail(Exit::Machine, refused)?;
        self.report(options.json);
        Ok(())
    }

    fn report(&self, json: bool) {
        let (file, manifest) = (&self.examined.file, self.examined.manifest());
        if json {
            let mut described: Value = words::describe(file, manifest, &self.examined.component);
            described["installed"] = json!(true);
            say!("{described}");
            return;
        }
        say!("{} {} is installed.", manifest.name, manifest.version);
        if let Some(request) = manifest.permissions.first() {
            let permission = &request.permission;
            say!("Nothing is granted by that: `vivarium pack grant {} {permission}` does, for example.", manifest.name);
        }
    }
}

//! `vivarium tenant`: who may use a server, and how much.
//!
//! It changes the file of tenants in the base folder, which a running server reads again by itself.
//!
//! # Layout
//! - [`lasting`]: how long a token lasts
//! - [`quotas`]: flags of quotas

mod lasting;
mod quotas;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use vivarium_blobs::TenantDirs;
use vivarium_protocol::tenant::TenantId;
use vivarium_server::auth::{Registry, RegistryError, Scope, Tenant, Token, TokenRecord};

use self::{lasting::Lasting, quotas::QuotaOptions};
use crate::{
    failure::{Exit, OrFail, Outcome},
    options::{Folders, SourceOptions},
    output::say,
};

/// Say who may use a server, and how much.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium tenant add alice                             shows a token, once
  vivarium tenant add viewer --scope read --expires 30d
  vivarium tenant quota alice --storage 50G --concurrent-jobs 2
  vivarium tenant token add alice --scope submit,read,admin
  vivarium tenant list

From the first tenant on, everybody needs a token, on this machine too. The tenant `default` owns the files and prompts of
the time before. Scopes: submit changes and queues things, read looks at them, admin sees the server's log.")]
pub(crate) struct TenantCommand {
    #[command(subcommand)]
    action: Action,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    folders: SourceOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a tenant, and a token for it
    Add {
        /// 1 to 64 of a-z 0-9 _ -
        name: TenantId,
        #[command(flatten)]
        token: TokenOptions,
        #[command(flatten)]
        quotas: QuotaOptions,
    },
    /// List tenants, their tokens and quotas
    List,
    /// Remove a tenant with all its tokens; its files stay
    Remove {
        /// The tenant
        name: TenantId,
    },
    /// Change what a tenant may use
    Quota {
        /// The tenant
        name: TenantId,
        #[command(flatten)]
        quotas: QuotaOptions,
    },
    /// Add and revoke tokens
    #[command(subcommand)]
    Token(TokenAction),
}

#[derive(Subcommand, Debug)]
enum TokenAction {
    /// Add a token, which is shown once
    Add {
        /// The tenant
        name: TenantId,
        #[command(flatten)]
        token: TokenOptions,
    },
    /// Revoke a token; a running server refuses it within a second
    Revoke {
        /// The tenant
        name: TenantId,
        /// As `vivarium tenant list` shows it
        id: String,
    },
}

#[derive(Args, Debug)]
struct TokenOptions {
    /// What the token allows
    #[arg(long, value_name = "SCOPE,…", value_delimiter = ',', default_values_t = Scope::DEFAULT)]
    scope: Vec<Scope>,

    /// How long it lasts, for example 12h, 30d or 1w [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires: Option<Lasting>,
}

impl TokenOptions {
    fn seconds(&self) -> Option<u64> {
        self.expires.map(|lasting| lasting.seconds)
    }
}

impl TenantCommand {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let registry = Registry::at(folders.tenants());
        let json = self.json;
        match self.action {
            Action::Add { name, token, quotas } => {
                let quotas = quotas.over(vivarium_server::auth::Quotas::default());
                let made = registry.change(|tenants| {
                    tenants.add(&name, quotas)?;
                    tenants.add_token(&name, &token.scope, token.seconds())
                });
                show_token(&name, &done(made)?, json);
            }
            Action::Token(TokenAction::Add { name, token }) => {
                let made = registry.change(|tenants| tenants.add_token(&name, &token.scope, token.seconds()));
                show_token(&name, &done(made)?, json);
            }
            Action::Token(TokenAction::Revoke { name, id }) => {
                done(registry.change(|tenants| tenants.revoke(&name, &id)))?;
                report(json, json!({"tenant": name, "revoked": id}), &format!("{name}: {id} is revoked"));
            }
            Action::Remove { name } => {
                done(registry.change(|tenants| tenants.remove(&name)))?;
                let dirs = dirs_of(&folders, &name);
                let kept = [&dirs.input, &dirs.output, &dirs.user];
                let text = format!(
                    "{name} is removed; its files stay, and a new tenant of that name gets them. They are in {}, {} and {}",
                    kept[0].display(),
                    kept[1].display(),
                    kept[2].display()
                );
                report(json, json!({"tenant": name, "removed": true, "kept": kept}), &text);
            }
            Action::Quota { name, quotas } => {
                let now = done(registry.change(|tenants| {
                    let tenant = tenants.get_mut(&name)?;
                    tenant.quotas = quotas.over(tenant.quotas);
                    Ok(tenant.quotas)
                }))?;
                report(json, json!({"tenant": name, "quotas": now}), &format!("{name}: {}", quotas::shown(&now)));
            }
            Action::List => list(&folders, &registry, json)?,
        }
        Ok(())
    }
}

fn done<T>(result: Result<T, RegistryError>) -> Outcome<T> {
    let exit = match &result {
        Err(RegistryError::TenantExists { .. } | RegistryError::NoTenant { .. } | RegistryError::NoToken { .. }) => {
            Exit::Usage
        }
        _ => Exit::Machine,
    };
    result.or_fail(exit, || "nothing was changed")
}

fn report(json: bool, value: Value, text: &str) {
    if json { say!("{value}") } else { say!("{text}") }
}

fn show_token(name: &TenantId, (token, record): &(Token, TokenRecord), json: bool) {
    if json {
        let mut shown = describe_token(record);
        shown["tenant"] = json!(name);
        shown["token"] = json!(token.reveal());
        say!("{shown}");
        return;
    }
    say!("{}", token.reveal());
    eprintln!("This is the token of {name}. It is shown only now; keep it like a password.");
}

fn describe_token(record: &TokenRecord) -> Value {
    json!({"id": record.id(), "scopes": record.scopes, "created": record.created, "expires": record.expires})
}

fn list(folders: &Folders, registry: &Registry, json: bool) -> Outcome<()> {
    let tenants = done(registry.read())?.tenants;
    let mut described = Vec::new();
    for (name, tenant) in &tenants {
        let stored =
            dirs_of(folders, name).stored_bytes().or_fail(Exit::Machine, || format!("could not list {name}"))?;
        if json {
            described.push(json!({
                "name": name,
                "created": tenant.created,
                "quotas": tenant.quotas,
                "storage_bytes_used": stored,
                "tokens": tenant.tokens.iter().map(describe_token).collect::<Vec<_>>(),
            }));
        } else {
            print(name, tenant, stored);
        }
    }
    if json {
        say!("{}", Value::Array(described));
    } else if tenants.is_empty() {
        say!("There are no tenants: whoever reaches the server on this machine may use it.");
    }
    Ok(())
}

fn print(name: &TenantId, tenant: &Tenant, stored: u64) {
    say!("{name}  {}  (stored: {})", quotas::shown(&tenant.quotas), quotas::bytes(stored));
    for token in &tenant.tokens {
        let scopes: Vec<String> = token.scopes.iter().map(Scope::to_string).collect();
        say!("  token {}  {}  {}", token.id(), scopes.join(","), lasting::rest(token.expires));
    }
}

fn dirs_of(folders: &Folders, name: &TenantId) -> TenantDirs {
    if *name == TenantId::default_tenant() { folders.tenant.clone() } else { TenantDirs::below(&folders.base, name) }
}

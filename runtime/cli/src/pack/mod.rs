//! `vivarium pack`: making, checking, signing, installing and permitting packs.
//!
//! # Layout
//! - [`new`] (it copies [`template`]), [`build`], [`test`](mod@test), [`check`], [`key`], [`push`]: for authors
//! - [`install`], [`update`], [`remove`], [`list`], [`info`], [`grant`], [`secret`], [`lock`]: for operators
//! - [`sandbox`]: for the unit tests of packs, which start it
//! - [`source`]: from a file, a folder or an address to a pack file; [`oci`]: from and to a registry
//! - [`examined`]: a pack file whose component has been looked at, in the sandbox
//! - [`words`]: what people are told

mod build;
mod check;
mod examined;
mod grant;
mod info;
mod install;
mod key;
mod list;
mod lock;
mod new;
mod oci;
mod push;
mod remove;
mod sandbox;
mod secret;
mod source;
mod template;
mod test;
mod update;
mod words;

use clap::{Args, Subcommand};

pub(crate) use self::list::List;
use crate::failure::Outcome;

/// Write, check, sign, install and permit node packs.
#[derive(Args, Debug)]
#[command(after_help = "\
Write one:
  vivarium pack new my-pack && cd my-pack       a pack with one node and a test
  vivarium pack test                            builds it and runs its tests and example workflows in the sandbox
  vivarium pack key new                         your signing key, once
  vivarium pack build --sign                    my-pack-0.1.0.wasm, to be given to others

Use one:
  vivarium pack check my-pack-0.1.0.wasm        what is in it and what it asks for; runs nothing of it but its description
  vivarium pack install my-pack-0.1.0.wasm      shows the same, asks, installs
  vivarium pack grant my-pack models/vae        lets it do one of the things it asks for
  vivarium pack list

A pack can do nothing but compute until it is granted something. docs/packs.md has the whole story.")]
pub(crate) struct PackCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    New(new::New),
    Build(build::Build),
    Test(test::Test),
    Sandbox(sandbox::Sandbox),
    Check(check::Check),
    Key(key::Key),
    Sign(key::Sign),
    Push(push::Push),
    Install(install::Install),
    List(list::List),
    Info(info::Info),
    Grant(grant::GrantCommand),
    Revoke(grant::Revoke),
    Secret(secret::Secret),
    Update(update::Update),
    Remove(remove::Remove),
    Lock(lock::LockCommand),
}

impl PackCommand {
    pub(crate) fn run(self) -> Outcome<()> {
        match self.action {
            Action::New(new) => new.run(),
            Action::Build(build) => build.run(),
            Action::Test(test) => test.run(),
            Action::Sandbox(sandbox) => sandbox.run(),
            Action::Check(check) => check.run(),
            Action::Key(key) => key.run(),
            Action::Sign(sign) => sign.run(),
            Action::Push(push) => push.run(),
            Action::Install(install) => install.run(),
            Action::List(list) => list.run(),
            Action::Info(info) => info.run(),
            Action::Grant(grant) => grant.run(),
            Action::Revoke(revoke) => revoke.run(),
            Action::Secret(secret) => secret.run(),
            Action::Update(update) => update.run(),
            Action::Remove(remove) => remove.run(),
            Action::Lock(lock) => lock.run(),
        }
    }
}

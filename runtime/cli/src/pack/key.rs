//! Signing keys, and signing.

use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use clap::{Args, Subcommand};
use vivarium_packs::signature::SigningKey;

use super::source::read_file;
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    options::LimitOptions,
    output::say,
};

/// Where the signing key is.
#[derive(Args, Clone, Debug)]
pub(super) struct KeyOptions {
    /// The file with the signing key [default: ~/.config/vivarium/signing.key]
    #[arg(long, value_name = "FILE", env = "VIVARIUM_SIGNING_KEY")]
    key: Option<PathBuf>,
}

impl KeyOptions {
    fn path(&self) -> Outcome<PathBuf> {
        if let Some(path) = &self.key {
            return Ok(path.clone());
        }
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config"))) {
            Some(config) => Ok(config.join("vivarium/signing.key")),
            None => fail!(Exit::Usage, "there is no home folder to keep a key in: name a file with --key"),
        }
    }

    /// The key.
    ///
    /// # Errors
    /// When there is none, or the file is none.
    pub(super) fn read(&self) -> Outcome<SigningKey> {
        let path = self.path()?;
        let text = fs::read_to_string(&path).or_fail(Exit::Machine, || {
            format!("could not read the signing key {} (`vivarium pack key new` makes one)", path.display())
        })?;
        text.parse().or_fail(Exit::Machine, || format!("{} can't be used", path.display()))
    }
}

/// Make and show signing keys.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack key new
  vivarium pack key show

Whoever installs your first pack remembers your key, and takes later versions from this key only. So keep the file, keep a
copy, and give it to nobody.")]
pub(crate) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a key; never over another one
    New(KeyOptions),
    /// Show the public key
    Show(KeyOptions),
}

impl Key {
    pub(crate) fn run(self) -> Outcome<()> {
        match self.action {
            Action::New(options) => new_key(&options),
            Action::Show(options) => {
                say!("{}", options.read()?.public());
                Ok(())
            }
        }
    }
}

fn new_key(options: &KeyOptions) -> Outcome<()> {
    let path = options.path()?;
    let doing = || format!("could not write {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).or_fail(Exit::Machine, doing)?;
    }
    let key = SigningKey::generate();
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).or_fail(Exit::Machine, doing)?;
    writeln!(file, "{}", key.to_text()).and_then(|()| file.sync_all()).or_fail(Exit::Machine, doing)?;
    say!("{}", key.public());
    eprintln!("The key is in {}. Keep a copy of that file; give it to nobody.", path.display());
    Ok(())
}

/// Sign a pack file.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack sign my-pack-0.1.0.wasm

The signature becomes the last section of the file and covers everything before it. A signature that is there is replaced.")]
pub(crate) struct Sign {
    /// The pack file, which is changed
    file: PathBuf,

    #[command(flatten)]
    key: KeyOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl Sign {
    pub(crate) fn run(self) -> Outcome<()> {
        let limit = self.limits.resolve()?.component_bytes;
        let key = self.key.read()?;
        let file = read_file(&self.file, limit)?;
        let signed = file.signed(&key, limit).or_fail(Exit::Work, || "could not sign the pack")?;
        fs::write(&self.file, signed.bytes())
            .or_fail(Exit::Machine, || format!("could not write {}", self.file.display()))?;
        say!("{}", signed.digest());
        eprintln!("signed by {}", key.public());
        Ok(())
    }
}

//! What is beyond this server's own folders: the network, and more folders.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use clap::Args;
use vivarium_blobs::{NamedFolders, ScratchFolders};
use vivarium_outbound::{HttpClient, Offline, Outbound};
use vivarium_protocol::permission::Permission;
use vivarium_worker::Outside;

use super::Folders;
use crate::failure::{Exit, Outcome, fail};

/// Whether the network is used.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NetworkOptions {
    /// Send nothing over the network, whatever was granted
    #[arg(long, env = "VIVARIUM_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
}

impl NetworkOptions {
    /// Refuses to use the network where that was said.
    ///
    /// # Errors
    /// Names what would have been asked.
    pub(crate) fn may_ask(&self, url: &str) -> Outcome<()> {
        if self.offline {
            fail!(Exit::Usage, "{url} is not asked: --offline (or VIVARIUM_OFFLINE) says to send nothing");
        }
        Ok(())
    }
}

/// What packs reach with permissions for it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Permissions")]
pub(crate) struct OutsideOptions {
    #[command(flatten)]
    network: NetworkOptions,

    /// A folder that packs with the permission input/NAME may read; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    input_folder: Vec<InputFolder>,
}

impl OutsideOptions {
    /// Opens it.
    ///
    /// # Errors
    /// When a folder isn't there, or two have one name.
    pub(crate) fn resolve(&self, folders: &Folders) -> Outcome<Outside> {
        for (index, folder) in self.input_folder.iter().enumerate() {
            if !folder.path.is_dir() {
                fail!(Exit::Machine, "--input-folder {}={} is not a folder", folder.name, folder.path.display());
            }
            if self.input_folder[..index].iter().any(|other| other.name == folder.name) {
                fail!(Exit::Usage, "--input-folder names two folders {}", folder.name);
            }
        }
        let http: Arc<dyn HttpClient> = match self.network.offline {
            true => Arc::new(Offline),
            false => Arc::new(Outbound::default()),
        };
        let named = self.input_folder.iter().map(|folder| (folder.name.clone(), folder.path.clone()));
        Ok(Outside { http, scratch: ScratchFolders::at(folders.scratch()), folders: NamedFolders::new(named) })
    }
}

/// `NAME=DIR`.
#[derive(Clone, Debug)]
struct InputFolder {
    name: String,
    path: PathBuf,
}

impl FromStr for InputFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("write NAME=DIR, for example photos=/srv/photos")?;
        match format!("input/{name}").parse() {
            Ok(Permission::Input { name }) if !path.is_empty() => Ok(Self { name, path: path.into() }),
            _ => Err(format!("{name:?} is not a name: letters, digits, '-' and '_'")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_input_folder_has_a_name_that_a_permission_can_have() {
        assert_eq!("photos=/x=y".parse::<InputFolder>().unwrap().path, PathBuf::from("/x=y"));
        for text in ["photos", "=/x", "../x=/x", "a/b=/x", "photos="] {
            assert!(text.parse::<InputFolder>().is_err(), "{text}");
        }
    }

    #[test]
    fn offline_is_said_with_the_address_that_was_not_asked() {
        let refused = NetworkOptions { offline: true }.may_ask("https://x.example/y").unwrap_err().to_string();
        assert!(refused.contains("https://x.example/y") && refused.contains("--offline"), "{refused}");
        NetworkOptions::default().may_ask("https://x.example/y").unwrap();
    }
}

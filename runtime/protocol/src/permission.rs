//! What a pack may ask for. Everything here is off until somebody grants it; a permission that is not in this list does not
//! exist.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::host_rule::HostRule;

/// One permission, written as in `models/vae` or `secret/huggingface`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Permission {
    /// `models/FOLDER`: compute with the weights in a model folder.
    Weights {
        /// The folder's name, as in `models/vae`.
        folder: String,
    },
    /// `models/FOLDER/values`: read raw numbers back in calls that opened weights of this folder.
    WeightValues {
        /// The folder's name.
        folder: String,
    },
    /// `secret/NAME`: read one of the tenant's secrets.
    Secret {
        /// Its name.
        name: String,
    },
    /// `clock/fine`: clocks of full precision, where packs otherwise get milliseconds.
    FineClock,
    /// `scratch`: files of its own that stay between prompts.
    Scratch,
    /// `input/NAME`: read a folder that the operator gave a name.
    Input {
        /// Its name.
        name: String,
    },
    /// `http/HOST`: HTTP requests to a host.
    Http {
        /// Which one, or which ones.
        host: HostRule,
    },
}

/// Longest folder or secret name.
const PART_LENGTH: usize = 64;

/// Not a permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a permission{}; there are models/FOLDER, models/FOLDER/values, input/NAME, secret/NAME, scratch, \
     clock/fine and http/HOST, where FOLDER and NAME are letters, digits, '-' and '_', and HOST is api.example.org, *.example.org or 127.0.0.1:8080",
    reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
)]
pub struct UnknownPermission {
    /// What was given.
    pub text: String,
    /// What is wrong with it, where that can be said.
    pub reason: Option<String>,
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let part = |part: &&str| !part.is_empty() && part.len() <= PART_LENGTH && part.chars().all(plain);
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["clock", "fine"] => Ok(Self::FineClock),
            ["scratch"] => Ok(Self::Scratch),
            ["input", name] if part(name) => Ok(Self::Input { name: (*name).to_owned() }),
            ["models", folder] if part(folder) => Ok(Self::Weights { folder: (*folder).to_owned() }),
            ["models", folder, "values"] if part(folder) => Ok(Self::WeightValues { folder: (*folder).to_owned() }),
            ["secret", name] if part(name) => Ok(Self::Secret { name: (*name).to_owned() }),
            ["http", host] => match host.parse() {
                Ok(host) => Ok(Self::Http { host }),
                Err(reason) => Err(UnknownPermission { text: short(text), reason: Some(reason) }),
            },
            _ => Err(UnknownPermission { text: short(text), reason: None }),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights { folder } => write!(formatter, "models/{folder}"),
            Self::WeightValues { folder } => write!(formatter, "models/{folder}/values"),
            Self::Secret { name } => write!(formatter, "secret/{name}"),
            Self::FineClock => formatter.write_str("clock/fine"),
            Self::Scratch => formatter.write_str("scratch"),
            Self::Input { name } => write!(formatter, "input/{name}"),
            Self::Http { host } => write!(formatter, "http/{host}"),
        }
    }
}

impl TryFrom<String> for Permission {
    type Error = UnknownPermission;

    fn try_from(text: String) -> Result<Self, UnknownPermission> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

impl Permission {
    /// What it means, in words for whoever has to decide.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Weights { folder } => format!("list the files of the model folder {folder} and compute with them"),
            Self::WeightValues { folder } => {
                format!(
                    "read the numbers themselves while it computes with models of {folder}, so that it could copy them"
                )
            }
            Self::Secret { name } => format!("read your secret {name}, and use it in everything that it does"),
            Self::FineClock => "measure time to the nanosecond, which can reveal what others compute".to_owned(),
            Self::Scratch => {
                "keep files of its own on this machine between prompts, of limited number and size".to_owned()
            }
            Self::Input { name } => format!("list and read every file of the folder that you named {name}"),
            Self::Http { host } => {
                let inside = if host.is_address() { ", also where that is a machine of your own network" } else { "" };
                format!(
                    "send anything that its nodes are given to {host} over the network{inside}, and read the answers"
                )
            }
        }
    }

    /// The interface of the host that is useless without it, if there is one.
    #[must_use]
    pub fn interface(&self) -> Option<&'static str> {
        match self {
            Self::Weights { .. } | Self::WeightValues { .. } => Some("vivarium:node/weights"),
            Self::Secret { .. } => Some("vivarium:node/secrets"),
            Self::FineClock => None,
            Self::Scratch => Some("vivarium:node/scratch"),
            Self::Input { .. } => Some("vivarium:node/folders"),
            Self::Http { .. } => Some("vivarium:node/http"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_permission_is_written_as_it_is_read() {
        for text in [
            "models/vae",
            "models/text_encoders/values",
            "secret/api-key",
            "clock/fine",
            "scratch",
            "input/photos",
            "http/*.example.org:8443",
        ] {
            assert_eq!(text.parse::<Permission>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_no_permission() {
        let long = format!("models/{}", "a".repeat(65));
        for text in [
            "",
            "models",
            "models/",
            "models/a/b",
            "models/..",
            "models/a b",
            "secret/",
            "clock",
            "network/x",
            "http/",
            "http/a/b",
            &long,
        ] {
            assert!(text.parse::<Permission>().is_err(), "{text:?}");
        }
    }
}

//! What a pack may ask for. Everything here is off until somebody grants it; a permission that is not in this list does not
//! exist.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

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
}

/// Longest folder or secret name.
const PART_LENGTH: usize = 64;

/// Not a permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a permission; there are models/FOLDER, models/FOLDER/values, secret/NAME and clock/fine, where \
     FOLDER and NAME are letters, digits, '-' and '_'"
)]
pub struct UnknownPermission {
    /// What was given.
    pub text: String,
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let part = |part: &&str| !part.is_empty() && part.len() <= PART_LENGTH && part.chars().all(plain);
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["clock", "fine"] => Ok(Self::FineClock),
            ["models", folder] if part(folder) => Ok(Self::Weights { folder: (*folder).to_owned() }),
            ["models", folder, "values"] if part(folder) => Ok(Self::WeightValues { folder: (*folder).to_owned() }),
            ["secret", name] if part(name) => Ok(Self::Secret { name: (*name).to_owned() }),
            _ => Err(UnknownPermission { text: text.chars().take(200).collect() }),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights { folder } => write!(formatter, "models/{folder}"),
            Self::WeightValues { folder } => write!(formatter, "models/{folder}/values"),
            Self::Secret { name } => write!(formatter, "secret/{name}"),
            Self::FineClock => formatter.write_str("clock/fine"),
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
        }
    }

    /// The interface of the host that is useless without it, if there is one.
    #[must_use]
    pub fn interface(&self) -> Option<&'static str> {
        match self {
            Self::Weights { .. } | Self::WeightValues { .. } => Some("vivarium:node/weights"),
            Self::Secret { .. } => Some("vivarium:node/secrets"),
            Self::FineClock => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_permission_is_written_as_it_is_read() {
        for text in ["models/vae", "models/text_encoders/values", "secret/api-key", "clock/fine"] {
            assert_eq!(text.parse::<Permission>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_no_permission() {
        let long = format!("models/{}", "a".repeat(65));
        for text in
            ["", "models", "models/", "models/a/b", "models/..", "models/a b", "secret/", "clock", "network/x", &long]
        {
            assert!(text.parse::<Permission>().is_err(), "{text:?}");
        }
    }
}

//! Whose data it is. Every table, folder and cache is keyed by a [`TenantId`], so it is checked once, here, and is safe as a
//! folder name afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ProtocolError;

/// The name of a tenant: 1 to 64 of the characters `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

impl TenantId {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// [`ProtocolError::TenantId`] when it is empty, too long or holds another character.
    pub fn new(name: impl Into<String>) -> Result<Self, ProtocolError> {
        let name = name.into();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > Self::MAX_LENGTH || !name.bytes().all(legal) {
            return Err(ProtocolError::TenantId { name: name.chars().take(Self::MAX_LENGTH).collect() });
        }
        Ok(Self(name))
    }

    /// The only tenant of a server without accounts: `default`.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<str> for TenantId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = ProtocolError;

    fn from_str(name: &str) -> Result<Self, ProtocolError> {
        Self::new(name)
    }
}

impl TryFrom<String> for TenantId {
    type Error = ProtocolError;

    fn try_from(name: String) -> Result<Self, ProtocolError> {
        Self::new(name)
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "A", "ä", "a b", "a\0", &"x".repeat(65)] {
            assert!(TenantId::new(name).is_err(), "{name:?}");
        }
        for name in ["default", "a", "team_7-b", &"x".repeat(64)] {
            assert_eq!(TenantId::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<TenantId>("\"../x\"").is_err());
        let tenant: TenantId = serde_json::from_str("\"default\"").unwrap();
        assert_eq!(tenant, TenantId::default_tenant());
        assert_eq!(serde_json::to_string(&tenant).unwrap(), "\"default\"");
    }
}

//! What the operator granted. Asking for a permission in a pack's definition grants nothing.

use std::{collections::HashSet, str::FromStr};

use vivarium_protocol::tenant::TenantId;

use crate::PackError;

/// One permission for one pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The pack's name.
    pub pack: String,
    /// For example `models/checkpoints`.
    pub permission: String,
}

impl FromStr for Grant {
    type Err = PackError;

    /// Reads `PACK:PERMISSION`.
    fn from_str(text: &str) -> Result<Self, PackError> {
        let known = |permission: &str| {
            permission.strip_prefix("models/").is_some_and(|folder| !folder.is_empty() && !folder.contains('/'))
        };
        match text.split_once(':') {
            Some((pack, permission)) if !pack.is_empty() && known(permission) => {
                Ok(Self { pack: pack.to_owned(), permission: permission.to_owned() })
            }
            _ => Err(PackError::InvalidGrant { text: text.to_owned() }),
        }
    }
}

/// Every grant in force.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    every_tenant: HashSet<Grant>,
}

impl Grants {
    /// Grants that hold for every tenant.
    #[must_use]
    pub fn for_every_tenant(grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { every_tenant: grants.into_iter().collect() }
    }

    /// Whether a pack has a permission when it works for a tenant.
    #[must_use]
    pub fn allows(&self, _tenant: &TenantId, pack: &str, permission: &str) -> bool {
        self.every_tenant.contains(&Grant { pack: pack.to_owned(), permission: permission.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_is_granted_that_was_not_named() {
        let grants = Grants::for_every_tenant(["sampler:models/vae".parse().unwrap()]);
        let tenant = TenantId::default_tenant();
        assert!(grants.allows(&tenant, "sampler", "models/vae"));
        assert!(!grants.allows(&tenant, "sampler", "models/checkpoints"));
        assert!(!grants.allows(&tenant, "other", "models/vae"));
        assert!(!Grants::default().allows(&tenant, "sampler", "models/vae"));
    }

    #[test]
    fn a_grant_that_means_nothing_is_refused() {
        for text in ["", "x", "x:", ":models/vae", "x:models/", "x:models/a/b", "x:everything"] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
    }
}

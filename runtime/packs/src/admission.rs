//! Whether a pack may be installed over what is there. Pure: no files, no questions; whoever calls asks those.

use std::fmt;

use crate::{
    file::PackFile,
    manifest::{Manifest, Request},
    signature::PublicKey,
    store::PackState,
};

/// What the operator said beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// A pack without a signature may be installed.
    pub unsigned: bool,
    /// A lower version, or other content under the same version, may be installed.
    pub downgrade: bool,
    /// What it asks for beyond the installed version was read.
    pub new_permissions: bool,
}

/// Why a pack is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file is not the one that was expected.
    #[error("its SHA-256 is {found}, expected was {expected}: it is another file, or was changed on the way")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Nobody signed it.
    #[error("nobody signed it, so nobody answers for it; --allow-unsigned installs it all the same")]
    Unsigned,
    /// The name belongs to a key, and this file has no signature.
    #[error("packs named {name:?} are signed by {known}, and this one is not signed at all")]
    Stripped {
        /// The pack.
        name: String,
        /// Whose name it is.
        known: PublicKey,
    },
    /// The name belongs to another key.
    #[error(
        "packs named {name:?} are signed by {known}, and this one by {offered}: it is from somebody else; if you know that \
         the publisher has a new key, `vivarium pack remove {name} --forget-key` makes room for it"
    )]
    ForeignKey {
        /// The pack.
        name: String,
        /// Whose name it is.
        known: PublicKey,
        /// Who signed this one.
        offered: PublicKey,
    },
    /// A lower version than one that was there.
    #[error(
        "version {offered} is lower than {highest}, which was installed before; --allow-downgrade goes back all the same"
    )]
    Downgrade {
        /// The highest version that was installed.
        highest: semver::Version,
        /// This one.
        offered: semver::Version,
    },
    /// The installed version, with other content.
    #[error(
        "version {version} is installed with other content: a publisher gives every change a new version; --allow-downgrade takes it all the same"
    )]
    SameVersion {
        /// The version.
        version: semver::Version,
    },
    /// It asks for more than the installed version.
    #[error("it asks for more than version {version}, which is installed: {}", Listed(.requests))]
    MorePermissions {
        /// The installed version.
        version: semver::Version,
        /// What is new.
        requests: Vec<Request>,
    },
}

struct Listed<'a>(&'a [Request]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> = self.0.iter().map(|request| request.permission.to_string()).collect();
        formatter.write_str(&listed.join(", "))
    }
}

/// Decides about a file whose signature has been verified.
///
/// # Errors
/// The first reason against it.
pub fn admit(file: &PackFile, manifest: &Manifest, state: &PackState, consent: Consent) -> Result<(), Refusal> {
    check_signer(file.signer(), &manifest.name, state, consent)?;
    check_version(file, manifest, state, consent)?;
    let Some(installed) = state.installed.get(&manifest.name) else { return Ok(()) };
    let grown = grown(&installed.requests, &manifest.permissions);
    if !grown.is_empty() && !consent.new_permissions {
        return Err(Refusal::MorePermissions { version: installed.version.clone(), requests: grown });
    }
    Ok(())
}

fn check_signer(signer: Option<&PublicKey>, name: &str, state: &PackState, consent: Consent) -> Result<(), Refusal> {
    let known = state.known.get(name).and_then(|known| known.signer);
    match (known, signer) {
        (None, None) if consent.unsigned => Ok(()),
        (None, None) => Err(Refusal::Unsigned),
        (None, Some(_)) => Ok(()),
        (Some(known), None) => Err(Refusal::Stripped { name: name.to_owned(), known }),
        (Some(known), Some(offered)) if known != *offered => {
            Err(Refusal::ForeignKey { name: name.to_owned(), known, offered: *offered })
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

fn check_version(file: &PackFile, manifest: &Manifest, state: &PackState, consent: Consent) -> Result<(), Refusal> {
    if consent.downgrade {
        return Ok(());
    }
    if let Some(known) = state.known.get(&manifest.name)
        && manifest.version < known.highest
    {
        return Err(Refusal::Downgrade { highest: known.highest.clone(), offered: manifest.version.clone() });
    }
    match state.installed.get(&manifest.name) {
        Some(installed) if installed.version == manifest.version && installed.digest != file.digest() => {
            Err(Refusal::SameVersion { version: manifest.version.clone() })
        }
        _ => Ok(()),
    }
}

/// What is asked for now and was not before. A new reason for an old permission is not new.
#[must_use]
pub fn grown(before: &[Request], now: &[Request]) -> Vec<Request> {
    let was_there = |request: &&Request| before.iter().any(|old| old.permission == request.permission);
    now.iter().filter(|request| !was_there(request)).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::signature::SigningKey;

    fn pack(version: &str, asks: &[&str], key: Option<&SigningKey>) -> PackFile {
        let mut text = format!("name = \"x\"\nversion = \"{version}\"\npublisher = \"P\"\nlicense = \"MIT\"\n");
        for permission in asks {
            text.push_str(&format!("[[permissions]]\npermission = \"{permission}\"\nreason = \"r\"\n"));
        }
        let file = PackFile::assemble(b"\0asm\x0d\0\x01\0", &text, &[], 1 << 20).unwrap();
        key.map_or(file.clone(), |key| file.signed(key, 1 << 20).unwrap())
    }

    fn decide(file: &PackFile, state: &PackState, consent: Consent) -> Result<(), Refusal> {
        admit(file, file.manifest().unwrap(), state, consent)
    }

    fn after(file: &PackFile) -> PackState {
        let mut state = PackState::default();
        state.install(file, "test".into(), 0).unwrap();
        state
    }

    #[test]
    fn the_first_key_of_a_name_is_its_only_one_even_after_removal() {
        let (ours, theirs) = (SigningKey::generate(), SigningKey::generate());
        let mut state = after(&pack("1.0.0", &[], Some(&ours)));
        let all = Consent { unsigned: true, downgrade: true, new_permissions: true };
        for _ in 0..2 {
            assert_eq!(decide(&pack("1.1.0", &[], Some(&ours)), &state, Consent::default()), Ok(()));
            let foreign = decide(&pack("1.1.0", &[], Some(&theirs)), &state, all).unwrap_err();
            assert!(matches!(foreign, Refusal::ForeignKey { .. }), "{foreign}");
            let stripped = decide(&pack("1.1.0", &[], None), &state, all).unwrap_err();
            assert!(matches!(stripped, Refusal::Stripped { .. }), "{stripped}");
            state.remove("x").ok();
        }
    }

    #[test]
    fn an_unsigned_pack_needs_a_word_and_its_name_goes_to_the_first_key() {
        let state = PackState::default();
        assert_eq!(decide(&pack("1.0.0", &[], None), &state, Consent::default()), Err(Refusal::Unsigned));
        let unsigned = Consent { unsigned: true, ..Consent::default() };
        assert_eq!(decide(&pack("1.0.0", &[], None), &state, unsigned), Ok(()));
        let mut state = after(&pack("1.0.0", &[], None));
        let key = SigningKey::generate();
        state.install(&pack("1.1.0", &[], Some(&key)), "test".into(), 0).unwrap();
        assert_eq!(state.known["x"].signer, Some(key.public()));
    }

    #[test]
    fn versions_go_up_and_never_change_their_content() {
        let key = SigningKey::generate();
        let state = after(&pack("1.10.0", &[], Some(&key)));
        assert!(matches!(
            decide(&pack("1.9.0", &[], Some(&key)), &state, Consent::default()),
            Err(Refusal::Downgrade { .. })
        ));
        assert!(matches!(
            decide(&pack("1.10.0", &["clock/fine"], Some(&key)), &state, Consent::default()),
            Err(Refusal::SameVersion { .. })
        ));
        assert_eq!(decide(&pack("1.10.0", &[], Some(&key)), &state, Consent::default()), Ok(()));
        let back = Consent { downgrade: true, ..Consent::default() };
        assert_eq!(decide(&pack("1.9.0", &[], Some(&key)), &state, back), Ok(()));
    }

    #[test]
    fn asking_for_more_needs_a_word_and_grants_of_what_is_not_asked_for_end() {
        let key = SigningKey::generate();
        let mut state = after(&pack("1.0.0", &["models/vae"], Some(&key)));
        let vae: vivarium_protocol::permission::Permission = "models/vae".parse().unwrap();
        state.grant(crate::store::Grantee::EveryTenant, "x", vae.clone());
        let more = pack("1.1.0", &["models/vae", "models/vae/values"], Some(&key));
        let refusal = decide(&more, &state, Consent::default()).unwrap_err();
        assert!(refusal.to_string().contains("models/vae/values") && !refusal.to_string().contains("models/vae,"));
        let read = Consent { new_permissions: true, ..Consent::default() };
        assert_eq!(decide(&more, &state, read), Ok(()));
        let tenant = vivarium_protocol::tenant::TenantId::default_tenant();
        state.install(&more, "test".into(), 0).unwrap();
        assert!(state.grants(&tenant, "x", &vae));
        assert!(!state.grants(&tenant, "x", &"models/vae/values".parse().unwrap()));
        state.install(&pack("1.2.0", &[], Some(&key)), "test".into(), 0).unwrap();
        assert!(!state.grants(&tenant, "x", &vae));
    }
}

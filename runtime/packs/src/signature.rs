//! Keys and signatures: Ed25519 over the SHA-256 of everything that stands before the signature.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::PackError;

/// A format byte, the public key, the signature.
pub(crate) const SIGNATURE_BYTES: usize = 1 + 32 + 64;
const FORMAT: u8 = 1;
/// So that a signature over a pack is never one over something else.
const CONTEXT: &[u8] = b"vivarium pack signature v1\0";
const SECRET_PREFIX: &str = "vivarium-secret-key-1:";
const PUBLIC_PREFIX: &str = "ed25519:";

/// Whoever has it can publish under its name.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&rand::random()))
    }

    /// What others know it by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// As it is kept in a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SECRET_PREFIX}{}", hex::encode(self.0.to_bytes()))
    }

    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; SIGNATURE_BYTES] {
        use ed25519_dalek::Signer;
        let signature = self.0.sign(&message(digest)).to_bytes();
        let mut bytes = [FORMAT; SIGNATURE_BYTES];
        bytes[1..33].copy_from_slice(&self.public().0);
        bytes[33..].copy_from_slice(&signature);
        bytes
    }
}

impl FromStr for SigningKey {
    type Err = PackError;

    /// Reads what [`SigningKey::to_text`] wrote.
    fn from_str(text: &str) -> Result<Self, PackError> {
        let bytes = text.trim().strip_prefix(SECRET_PREFIX).and_then(|key| hex::decode(key).ok());
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        // The text itself stays out of the message: it may be somebody's key, mistyped.
        let bytes = bytes.ok_or_else(|| PackError::Signature {
            message: "that is no signing key; `vivarium pack key new` makes one".into(),
        })?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&bytes)))
    }
}

/// Names a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key that made a signature, once it is clear that it did.
    pub(crate) fn that_signed(bytes: &[u8; SIGNATURE_BYTES], digest: &[u8; 32]) -> Result<Self, PackError> {
        let wrong = |message: &str| PackError::Signature { message: message.into() };
        let (format, rest) = (bytes[0], &bytes[1..]);
        if format != FORMAT {
            return Err(wrong("its signature has a format that this version does not know"));
        }
        let (key, signature) = rest.split_at(32);
        let key: [u8; 32] = key.try_into().map_err(|_| wrong("its key is cut short"))?;
        let signature = Signature::from_slice(signature).map_err(|_| wrong("its signature is malformed"))?;
        let verifying = VerifyingKey::from_bytes(&key).map_err(|_| wrong("its key is not a key"))?;
        // Strict: refuses keys and signatures for which several signatures or messages would pass.
        verifying
            .verify_strict(&message(digest), &signature)
            .map_err(|_| wrong("its signature does not fit its content: the file was changed after it was signed"))?;
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PUBLIC_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = text.strip_prefix(PUBLIC_PREFIX).and_then(|key| hex::decode(key).ok());
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| format!("not a public key: {text:?}"))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

fn message(digest: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, digest].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_signature_fits_one_content_and_one_key() {
        let key: SigningKey = SigningKey::generate().to_text().parse().unwrap();
        let signature = key.sign(&[7; 32]);
        assert_eq!(PublicKey::that_signed(&signature, &[7; 32]).unwrap(), key.public());
        assert!(PublicKey::that_signed(&signature, &[8; 32]).is_err());
        let mut of_another = signature;
        of_another[1..33].copy_from_slice(&SigningKey::generate().public().0);
        assert!(PublicKey::that_signed(&of_another, &[7; 32]).is_err());
        let mut newer = signature;
        newer[0] = 2;
        assert!(PublicKey::that_signed(&newer, &[7; 32]).unwrap_err().to_string().contains("format"));
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_repeated() {
        let message = "vivarium-secret-key-1:abc".parse::<SigningKey>().unwrap_err().to_string();
        assert!(!message.contains("abc"), "{message}");
    }
}

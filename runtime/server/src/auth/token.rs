//! Tokens and what they allow.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use vivarium_blobs::Digest;

use super::RegistryError;

const PREFIX: &str = "viv_";
const BYTES: usize = 32;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything in its tenant that changes something: queue, upload, delete, interrupt.
    Submit,
    /// Everything in its tenant that only looks, events included.
    Read,
    /// What is the operator's: the server's log.
    Admin,
}

impl Scope {
    /// What a token may do if nothing else was said.
    pub const DEFAULT: [Self; 2] = [Self::Submit, Self::Read];
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "submit" => Ok(Self::Submit),
            "read" => Ok(Self::Read),
            "admin" => Ok(Self::Admin),
            other => Err(format!("{other:?} is no scope; scopes are submit, read and admin")),
        }
    }
}

/// A secret that its holder shows. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one from 32 bytes of the system's randomness.
    ///
    /// # Errors
    /// [`RegistryError::Random`] when the system has none.
    pub fn generate() -> Result<Self, RegistryError> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| RegistryError::Random { reason: error.to_string() })?;
        Ok(Self(bytes.iter().fold(PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))))
    }

    /// What somebody shows, if it has the form of a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let secret = text.strip_prefix(PREFIX)?;
        let legal = secret.len() == 2 * BYTES && secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        legal.then(|| Self(text.to_owned()))
    }

    /// The secret itself, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its SHA-256, hexadecimal: what is stored. It is looked up by this, so that no comparison of secrets can be timed.
    #[must_use]
    pub fn hash(&self) -> String {
        Digest::of(self.0.as_bytes()).to_string()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_differ_are_read_back_and_are_not_printed() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(Token::parse(&format!(" {}\n", one.reveal())).unwrap(), one);
        assert!(!format!("{one:?}").contains(&one.reveal()[4..12]));
        assert!(!one.hash().contains(&one.reveal()[4..12]));
        for bad in ["", "viv_", "viv_00", &one.reveal()[1..], &one.reveal().to_uppercase()] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn scopes_are_their_names() {
        for scope in [Scope::Submit, Scope::Read, Scope::Admin] {
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
        assert!("root".parse::<Scope>().unwrap_err().contains("root"));
    }
}

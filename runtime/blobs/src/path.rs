//! Which names a client may use. Pure: nothing is opened here.
//!
//! The rule is a list of what is refused, and refusing is preferred to repairing: a repaired name is a name that somebody else
//! reads differently. Only `.` and doubled slashes are dropped, as ComfyUI does. Nothing is decoded or normalised (`%2e` is
//! three characters, a full-width dot is a letter), so no later step can turn a harmless name into a harmful one.

use std::fmt;

use crate::BlobError;

/// Longest single name, in bytes: the limit of the common file systems.
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Longest path below a folder, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Names that begin like this are half-made files of ours; nobody may read, write or see them.
pub(crate) const RESERVED_PREFIX: &str = ".vivarium-tmp-";

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Nothing is left of it.
    #[error("it is empty")]
    Empty,
    /// It begins with a slash.
    #[error("it must be relative, so it may not begin with a slash")]
    Absolute,
    /// A part of it is `..`.
    #[error("it may not contain \"..\"")]
    ParentDirectory,
    /// A backslash: a separator on some systems, a letter on others.
    #[error("it may not contain a backslash; use / between folders")]
    Backslash,
    /// A part like `C:`.
    #[error("it may not contain a drive letter")]
    DriveLetter,
    /// NUL, line feeds and the like.
    #[error("it may not contain control characters")]
    ControlCharacter,
    /// A part is longer than [`MAX_COMPONENT_BYTES`], or the whole than [`MAX_PATH_BYTES`].
    #[error("it is too long (at most {MAX_COMPONENT_BYTES} bytes per part and {MAX_PATH_BYTES} bytes in all)")]
    TooLong,
    /// It begins with the prefix of half-made files.
    #[error("names that begin with \"{RESERVED_PREFIX}\" are kept for the server")]
    Reserved,
}

/// A checked path below some folder: parts joined by `/`, none of them special. May be empty, which is the folder itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Checks a path; `""` and `"."` are the folder itself.
    ///
    /// # Errors
    /// [`BlobError::Name`] with the reason.
    pub fn parse(text: &str) -> Result<Self, BlobError> {
        match check(text) {
            Ok(path) => Ok(Self(path)),
            Err(problem) => Err(BlobError::Name { name: text.chars().take(200).collect(), problem }),
        }
    }

    /// Checks a path that must name something below the folder.
    ///
    /// # Errors
    /// [`BlobError::Name`] with the reason.
    pub fn parse_file(text: &str) -> Result<Self, BlobError> {
        let path = Self::parse(text)?;
        if path.is_folder_itself() || text.ends_with('/') {
            return Err(BlobError::Name { name: text.chars().take(200).collect(), problem: PathProblem::Empty });
        }
        Ok(path)
    }

    /// This path with another below it.
    ///
    /// # Errors
    /// [`BlobError::Name`] when together they are too long.
    pub fn join(&self, below: &Self) -> Result<Self, BlobError> {
        if self.0.is_empty() {
            return Ok(below.clone());
        }
        if below.0.is_empty() {
            return Ok(self.clone());
        }
        Self::parse(&format!("{}/{}", self.0, below.0))
    }

    /// The path as text, parts joined by `/`, empty for the folder itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names the folder itself.
    #[must_use]
    pub fn is_folder_itself(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder part and the last name. Both empty for the folder itself.
    #[must_use]
    pub fn split(&self) -> (Self, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (Self(folder.to_owned()), name),
            None => (Self::default(), &self.0),
        }
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<String, PathProblem> {
    if text.len() > MAX_PATH_BYTES {
        return Err(PathProblem::TooLong);
    }
    if text.contains('\\') {
        return Err(PathProblem::Backslash);
    }
    if text.chars().any(char::is_control) {
        return Err(PathProblem::ControlCharacter);
    }
    if text.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        check_part(part)?;
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(path)
}

fn check_part(part: &str) -> Result<(), PathProblem> {
    if part == ".." {
        return Err(PathProblem::ParentDirectory);
    }
    if part.len() > MAX_COMPONENT_BYTES {
        return Err(PathProblem::TooLong);
    }
    let bytes = part.as_bytes();
    let looks_like_a_drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    // On Windows any colon opens a hidden stream of the file.
    if looks_like_a_drive || (cfg!(windows) && part.contains(':')) {
        return Err(PathProblem::DriveLetter);
    }
    if part.starts_with(RESERVED_PREFIX) {
        return Err(PathProblem::Reserved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> PathProblem {
        match RelativePath::parse_file(text) {
            Err(BlobError::Name { problem, .. }) => problem,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_with_their_reason() {
        assert_eq!(problem(""), PathProblem::Empty);
        assert_eq!(problem("./."), PathProblem::Empty);
        assert_eq!(problem("a/"), PathProblem::Empty);
        assert_eq!(problem("/etc/passwd"), PathProblem::Absolute);
        assert_eq!(problem("//server/share"), PathProblem::Absolute);
        assert_eq!(problem("\\\\server\\share"), PathProblem::Backslash);
        assert_eq!(problem("..\\x"), PathProblem::Backslash);
        assert_eq!(problem(".."), PathProblem::ParentDirectory);
        assert_eq!(problem("a/../b"), PathProblem::ParentDirectory);
        assert_eq!(problem("./../b"), PathProblem::ParentDirectory);
        assert_eq!(problem("C:/x"), PathProblem::DriveLetter);
        assert_eq!(problem("sub/c:x"), PathProblem::DriveLetter);
        assert_eq!(problem("x\0.png"), PathProblem::ControlCharacter);
        assert_eq!(problem("x\r\nSet-Cookie: a"), PathProblem::ControlCharacter);
        assert_eq!(problem(&"x".repeat(256)), PathProblem::TooLong);
        assert_eq!(problem(&"ab/".repeat(400)), PathProblem::TooLong);
        assert_eq!(problem(".vivarium-tmp-1"), PathProblem::Reserved);
    }

    #[test]
    fn odd_but_harmless_names_are_taken_literally() {
        for name in [
            "%2e%2e",
            "..png",
            "a..png",
            "...",
            "．．",
            "x\u{202e}gnp.exe",
            "a b",
            "~",
            "$HOME",
            "-rf",
            "é",
            "e\u{301}",
        ] {
            assert_eq!(RelativePath::parse_file(name).unwrap().as_str(), name);
        }
        assert_eq!(RelativePath::parse("a//./b").unwrap().as_str(), "a/b");
    }

    fn nasty_part() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(String::new()),
            Just("C:".to_owned()),
            Just("\\".to_owned()),
            Just("\0".to_owned()),
            Just("%2e%2e".to_owned()),
            Just("．．".to_owned()),
            Just("x".repeat(300)),
            "[a-z.]{1,4}",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn what_is_accepted_never_leaves_its_folder(parts in prop::collection::vec(nasty_part(), 0..6), absolute: bool) {
            let text = format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"));
            if let Ok(path) = RelativePath::parse(&text) {
                let as_path = std::path::Path::new(path.as_str());
                for component in as_path.components() {
                    prop_assert!(matches!(component, std::path::Component::Normal(_)), "{text:?}");
                }
                prop_assert!(!path.as_str().contains(['\\', '\0']));
                prop_assert_eq!(&RelativePath::parse(path.as_str()).unwrap(), &path, "checking twice changes nothing");
            }
        }
    }
}

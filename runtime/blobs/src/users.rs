//! ComfyUI's users, inside one tenant: `--multi-user` gives each of them workflows and settings of their own.
//!
//! They are a way to keep apart what one household or team makes, not a protection: whoever has the tenant's token may say
//! to be any of its users. The table has ComfyUI's form and place, `users.json` with `{id: name}`, so a folder that
//! ComfyUI filled goes on to work.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::{BlobError, RelativePath, UserData, place, root::Root, userdata::read_object};

/// The table of users.
const TABLE: &str = "users.json";
/// The id under which everything of a single user lies.
const DEFAULT_ID: &str = "default";
/// Users of one tenant.
const MAX_USERS: usize = 100;
/// The longest name in characters.
const MAX_NAME: usize = 100;
/// The longest id in bytes: a name, and ComfyUI's suffix.
const MAX_ID: usize = MAX_NAME + 64;

/// Why a user cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserProblem {
    /// Nothing but spaces.
    #[error("a user needs a name")]
    Blank,
    /// Longer than [`MAX_NAME`].
    #[error("a user's name has at most {MAX_NAME} characters")]
    Long,
    /// Somebody has it.
    #[error("there is a user of this name")]
    Duplicate,
    /// There are [`MAX_USERS`].
    #[error("a tenant has at most {MAX_USERS} users; remove some from users.json")]
    TooMany,
}

/// The users of one tenant. All calls may run at once.
pub struct Users {
    path: PathBuf,
    /// Changing the table is reading, adding and writing; two at once would lose one.
    table: Mutex<()>,
    /// One per user that was asked for, since it holds the lock of that user's settings.
    open: Mutex<HashMap<String, Arc<UserData>>>,
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Users").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Users {
    /// The users below a folder, which is created when there is a first one. `own` is what the id `default` stands for.
    pub(crate) fn new(path: PathBuf, own: Arc<UserData>) -> Self {
        Self { path, table: Mutex::default(), open: Mutex::new(HashMap::from([(DEFAULT_ID.to_owned(), own)])) }
    }

    /// All users, id and name, in the order in which they were made.
    ///
    /// # Errors
    /// [`BlobError::Settings`] when the table is not a JSON object, or what the machine says.
    pub fn names(&self) -> Result<Map<String, Value>, BlobError> {
        let path = self.path.join(TABLE);
        if !path.exists() {
            return Ok(Map::new());
        }
        read_object(&self.root()?, TABLE, path)
    }

    /// Makes a user and answers with the id: the name with `-` for what an id can't have, and `suffix`, which makes it
    /// one that nobody else has.
    ///
    /// # Errors
    /// [`BlobError::User`] with the reason; else as [`Users::names`].
    pub fn add(&self, name: &str, suffix: impl fmt::Display) -> Result<String, BlobError> {
        let refuse = |problem| Err(BlobError::User { name: name.chars().take(MAX_NAME).collect(), problem });
        let name = name.trim();
        if name.is_empty() {
            return refuse(UserProblem::Blank);
        }
        if name.chars().count() > MAX_NAME {
            return refuse(UserProblem::Long);
        }
        let _one_at_a_time = self.table.lock();
        let mut names = self.names()?;
        if names.values().any(|taken| taken == name) {
            return refuse(UserProblem::Duplicate);
        }
        if names.len() >= MAX_USERS {
            return refuse(UserProblem::TooMany);
        }
        let id = format!("{}_{suffix}", id_part(name));
        names.insert(id.clone(), Value::from(name));
        self.write(&names)?;
        Ok(id)
    }

    /// What is kept for a user.
    ///
    /// # Errors
    /// [`BlobError::UnknownUser`] when the table has no such id; else as [`Users::names`].
    pub fn data(&self, id: &str) -> Result<Arc<UserData>, BlobError> {
        if !is_id(id) || !self.names()?.contains_key(id) {
            return Err(BlobError::UnknownUser { id: id.chars().take(MAX_NAME).collect() });
        }
        let mut open = self.open.lock();
        if let Some(data) = open.get(id) {
            return Ok(Arc::clone(data));
        }
        let data = Arc::new(UserData::open(self.path.join(id))?);
        open.insert(id.to_owned(), Arc::clone(&data));
        Ok(data)
    }

    fn root(&self) -> Result<Root, BlobError> {
        Root::open(&self.path, "user")
    }

    fn write(&self, names: &Map<String, Value>) -> Result<(), BlobError> {
        let path = self.path.join(TABLE);
        let bytes = serde_json::to_vec(names).map_err(|source| BlobError::Settings { path, source })?;
        let (root, table) = (self.root()?, RelativePath::parse_file(TABLE)?);
        let spot = root.spot(&table, true)?;
        place::write_file(&spot.dir, spot.name, &bytes, true).map_err(|source| root.failed("write", &table, source))
    }
}

fn is_id_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// An id is the name of a folder, and the table may have been edited by hand.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && id.chars().all(is_id_character)
}

/// ComfyUI's rule: each run of characters that an id can't have becomes one `-`.
fn id_part(name: &str) -> String {
    let mut id = String::with_capacity(name.len());
    for character in name.chars() {
        match is_id_character(character) {
            true => id.push(character),
            false if id.ends_with('-') => {}
            false => id.push('-'),
        }
    }
    id
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn users(base: &tempfile::TempDir) -> Users {
        let own = Arc::new(UserData::open(base.path().join("user/default")).unwrap());
        Users::new(base.path().join("user"), own)
    }

    fn problem(result: Result<String, BlobError>) -> UserProblem {
        match result {
            Err(BlobError::User { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_user_has_a_folder_under_an_id_made_of_its_name() {
        let base = tempfile::tempdir().unwrap();
        let users = users(&base);
        assert!(users.names().unwrap().is_empty());
        let id = users.add(" Zoë & Åke ", "1").unwrap();
        assert_eq!(id, "Zo-ke_1");
        users.data(&id).unwrap().write("workflows/a.json", b"{}", false).unwrap();
        assert!(base.path().join("user/Zo-ke_1/workflows/a.json").is_file());
        assert_eq!(users.names().unwrap()[&id], "Zoë & Åke");
    }

    #[test]
    fn names_have_rules() {
        let base = tempfile::tempdir().unwrap();
        let users = users(&base);
        users.add("a", "1").unwrap();
        assert_eq!(problem(users.add("a", "2")), UserProblem::Duplicate);
        assert_eq!(problem(users.add("  ", "2")), UserProblem::Blank);
        assert_eq!(problem(users.add(&"a".repeat(MAX_NAME + 1), "2")), UserProblem::Long);
        for number in 1..MAX_USERS {
            users.add(&format!("b{number}"), number).unwrap();
        }
        assert_eq!(problem(users.add("c", "2")), UserProblem::TooMany);
    }

    #[test]
    fn who_is_not_in_the_table_has_no_folder() {
        let base = tempfile::tempdir().unwrap();
        let users = users(&base);
        std::fs::create_dir_all(base.path().join("user/other")).unwrap();
        std::fs::write(base.path().join("user/users.json"), r#"{"..": "up", "a/b": "below", "": "none", "ok": "o"}"#)
            .unwrap();
        for id in ["other", "..", "a/b", "", "default", "OK"] {
            assert!(matches!(users.data(id), Err(BlobError::UnknownUser { .. })), "{id}");
        }
        assert!(users.data("ok").is_ok());
    }

    #[test]
    fn the_id_default_is_what_a_single_user_has() {
        let base = tempfile::tempdir().unwrap();
        let users = users(&base);
        std::fs::write(base.path().join("user/users.json"), r#"{"default": "me"}"#).unwrap();
        users.data("default").unwrap().write("a", b"1", false).unwrap();
        assert!(base.path().join("user/default/a").is_file());
    }
}

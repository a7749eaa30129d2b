//! The files that a prompt made: finding them in its outputs, giving them names here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::{Exit, OrFail, Outcome, fail};

/// A file as `ui` outputs name it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct ResultFile {
    /// Its name.
    pub(crate) filename: String,
    /// Inside the folder of its type.
    #[serde(default)]
    pub(crate) subfolder: String,
    /// `output`, `temp` or `input`.
    #[serde(default = "output")]
    pub(crate) r#type: String,
}

fn output() -> String {
    "output".to_owned()
}

/// Every file in the outputs of a history entry (images, audio, whatever a node calls them), with its node.
pub(crate) fn listed(outputs: &Map<String, Value>, with_previews: bool) -> Vec<(String, ResultFile)> {
    let mut files = Vec::new();
    for (node, ui) in outputs {
        let items = ui.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_array).flatten();
        let named = items.filter_map(|item| ResultFile::deserialize(item).ok());
        let wanted = named.filter(|file| file.r#type == "output" || (with_previews && file.r#type == "temp"));
        files.extend(wanted.map(|file| (node.clone(), file)));
    }
    files.dedup();
    files
}

/// Gives a finished file its name. A file that is there already is never overwritten: the same content is reused,
/// other content makes the new file `name (1).png`.
pub(crate) fn settle(partial: &Path, folder: &Path, name: &str) -> Outcome<PathBuf> {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    for attempt in 0_u32.. {
        let candidate = match attempt {
            0 => folder.join(name),
            number => folder.join(format!("{stem} ({number}){extension}")),
        };
        match fs::hard_link(partial, &candidate) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if !same_content(partial, &candidate) {
                    continue;
                }
            }
            // A file system without hard links: not race-free there, but good enough for one person's folder.
            Err(_) if candidate.exists() => continue,
            Err(_) => {
                fs::rename(partial, &candidate)
                    .or_fail(Exit::Machine, || format!("could not write {}", candidate.display()))?;
                return Ok(candidate);
            }
        }
        fs::remove_file(partial).ok();
        return Ok(candidate);
    }
    fail!(Exit::Machine, "there is no free name for {name} in {}", folder.display())
}

fn same_content(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// The name, if it is one: a server must not choose where on this machine its files go.
pub(crate) fn safe_name(filename: &str) -> Outcome<&str> {
    let is_one_component = Path::new(filename).file_name().is_some_and(|name| name == filename);
    if !is_one_component || filename.contains(['/', '\\', '\0']) || filename.chars().any(char::is_control) {
        fail!(Exit::Server, "the server names a result {filename:?}, which is not a file name");
    }
    Ok(filename)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn results_of_every_kind_are_listed_and_previews_on_request() {
        let outputs = json!({
            "9": {"images": [{"filename": "a.png", "subfolder": "s", "type": "output"}], "animated": [false]},
            "10": {"images": [{"filename": "p.png", "subfolder": "", "type": "temp"}]},
            "11": {"audio": [{"filename": "a.flac"}], "text": ["words"]},
        });
        let outputs = outputs.as_object().unwrap();
        let names = |previews| listed(outputs, previews).into_iter().map(|(_, file)| file.filename).collect::<Vec<_>>();
        assert_eq!(names(false), ["a.png", "a.flac"]);
        assert_eq!(names(true), ["a.png", "p.png", "a.flac"]);
    }

    #[test]
    fn a_server_can_not_choose_the_folder() {
        for name in ["", ".", "..", "../x", "/etc/x", "a/b", "a\\b", "a\0b", "a\nb"] {
            assert!(safe_name(name).is_err(), "{name:?}");
        }
        assert_eq!(safe_name("a (1).png").unwrap(), "a (1).png");
    }

    #[test]
    fn nothing_is_overwritten_and_equal_files_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let save = |content: &str| {
            let partial = folder.path().join(".partial");
            fs::write(&partial, content).unwrap();
            let path = settle(&partial, folder.path(), "a.png").unwrap();
            assert!(!partial.exists());
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(save("one"), "a.png");
        assert_eq!(save("one"), "a.png");
        assert_eq!(save("two"), "a (1).png");
        assert_eq!(save("two"), "a (1).png");
    }
}

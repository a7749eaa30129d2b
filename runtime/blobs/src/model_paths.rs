//! `extra_model_paths.yaml`: more folders with models, as ComfyUI reads them.
//!
//! The file is a map of sections. In each, `base_path` is what the others are relative to (`~` and `$NAME` are filled in;
//! without it they are relative to the file), `is_default` puts its folders before all others, and every other key is a type
//! of model with its folders, one per line.

use std::{
    env,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde_json::Value;

/// One folder more for a type of model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraPath {
    /// The type, for example `loras`.
    pub folder: String,
    /// Where its models are.
    pub path: PathBuf,
    /// Before all other folders of the type.
    pub first: bool,
}

/// Why a file with extra model paths cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtraPathsError {
    /// It is not there, or may not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no YAML of the right shape.
    #[error("{}: is no map of sections with texts in them: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
}

type Sections = IndexMap<String, Option<IndexMap<String, Value>>>;

/// Reads a file with extra model paths. The folders need not exist.
///
/// # Errors
/// [`ExtraPathsError`] names the file and the place in it.
pub fn read_extra_model_paths(file: &Path) -> Result<Vec<ExtraPath>, ExtraPathsError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ExtraPathsError::Read { path: file.to_path_buf(), source })?;
    let beside = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let beside = beside.parent().unwrap_or(Path::new("/"));
    parse(&text, beside, &|name| env::var(name).ok())
        .map_err(|reason| ExtraPathsError::Format { path: file.to_path_buf(), reason })
}

fn parse(text: &str, beside: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<ExtraPath>, String> {
    let sections: Option<Sections> = yaml_serde::from_str(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (section, entries) in sections.unwrap_or_default() {
        let mut entries = entries.unwrap_or_default();
        let base = match entries.shift_remove("base_path") {
            None | Some(Value::Null) => beside.to_path_buf(),
            Some(Value::String(base)) => beside.join(fill_in(&base, variable)),
            Some(_) => return Err(format!("{section}: base_path is not a text")),
        };
        let first = match entries.shift_remove("is_default") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => return Err(format!("{section}: is_default is neither true nor false")),
        };
        for (folder, paths) in entries {
            let paths = match &paths {
                Value::String(paths) => paths,
                Value::Null => continue,
                _ => return Err(format!("{section}: {folder} is not a text with one folder per line")),
            };
            for path in paths.lines().map(str::trim).filter(|path| !path.is_empty()) {
                found.push(ExtraPath { folder: modern(&folder).to_owned(), path: base.join(path), first });
            }
        }
    }
    Ok(found)
}

/// Old names of types.
fn modern(folder: &str) -> &str {
    match folder {
        "unet" => "diffusion_models",
        "clip" => "text_encoders",
        other => other,
    }
}

/// Fills in a leading `~`, and `$NAME` and `${NAME}` where the variable is set.
fn fill_in(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = path;
    if let Some(home) = variable("HOME").filter(|_| path == "~" || path.starts_with("~/")) {
        filled.push_str(&home);
        rest = &path[1..];
    }
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let plain = || after.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        let (name, end) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let end = plain().unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => filled.push_str(&value),
            None => filled.push_str(&rest[at..=at + end]),
        }
        rest = &after[end..];
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn variables(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/u".to_owned()).or_else(|| (name == "DISK").then(|| "/d".to_owned()))
    }

    #[test]
    fn the_usual_file_is_understood() {
        let text = "\
a111:
  base_path: ~/webui/
  is_default: true
  checkpoints: models/Stable-diffusion
  loras: |
    models/Lora
    /elsewhere/LyCORIS
  hypernetworks:
empty:
other:
  base_path: ${DISK}/$DISK/$NONE
  unet: u
  mine: m
beside:
  clip: c
";
        let found = parse(text, Path::new("/etc/v"), &variables).unwrap();
        let shown: Vec<_> = found.iter().map(|e| (e.folder.as_str(), e.path.to_str().unwrap(), e.first)).collect();
        assert_eq!(
            shown,
            [
                ("checkpoints", "/home/u/webui/models/Stable-diffusion", true),
                ("loras", "/home/u/webui/models/Lora", true),
                ("loras", "/elsewhere/LyCORIS", true),
                ("diffusion_models", "/d//d/$NONE/u", false),
                ("mine", "/d//d/$NONE/m", false),
                ("text_encoders", "/etc/v/c", false),
            ]
        );
        assert_eq!(parse("", Path::new("/"), &variables).unwrap(), []);
        assert_eq!(parse("# nothing", Path::new("/"), &variables).unwrap(), []);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("- a", "map"),
            ("a: b", "map"),
            ("a: {loras: [x]}", "loras"),
            ("a: {is_default: 3}", "is_default"),
            ("a: {base_path: {}}", "base_path"),
        ] {
            let error = parse(text, Path::new("/"), &variables).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let missing = read_extra_model_paths(Path::new("/no/such.yaml")).unwrap_err().to_string();
        assert!(missing.contains("/no/such.yaml"), "{missing}");
    }
}

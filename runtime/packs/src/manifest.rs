//! `pack.toml`: what a pack says about itself to people, in words that are safe to show, and what it asks for.
//!
//! The node definitions are not in it: the component itself tells them (`describe`), so that the two can't disagree.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use vivarium_protocol::{permission::Permission, replacement::Replacement};

use crate::PackError;

/// The only world that this version offers.
pub const WORLD: &str = "vivarium:node/pack@1.0.0";
/// A manifest has no more bytes than this.
pub const MANIFEST_BYTES: usize = 64 << 10;

const NAME_LENGTH: usize = 64;
const LINE_LENGTH: usize = 500;
const ENTRIES: usize = 200;

/// A pack's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Lower-case letters, digits and `-`; at most 64. The component must give the same.
    pub name: String,
    /// Semantic version. The component must give the same.
    pub version: semver::Version,
    /// Who made it; shown to people. What proves it is the signature.
    pub publisher: String,
    /// SPDX expression.
    pub license: String,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// The ABI it was built for: [`WORLD`].
    #[serde(default = "world")]
    pub world: String,
    /// What it asks for, with reasons.
    #[serde(default)]
    pub permissions: Vec<Request>,
    /// Help texts in Markdown: class to file.
    #[serde(default)]
    pub help: BTreeMap<String, String>,
    /// Example workflows, which UIs offer as templates.
    #[serde(default)]
    pub workflows: Vec<Workflow>,
    /// Subgraphs that every workflow may use.
    #[serde(default)]
    pub subgraphs: Vec<Workflow>,
    /// Translations of its nodes: language to file, in the form of a language of ComfyUI's `/i18n`. Only what is about its
    /// own classes (`nodeDefs`) counts.
    #[serde(default)]
    pub translations: BTreeMap<String, String>,
    /// A PNG or WebP.
    #[serde(default)]
    pub icon: Option<String>,
    /// Classes of others, perhaps of ComfyUI, that its own can stand in for.
    #[serde(default)]
    pub replacements: Vec<Replacement>,
    /// How `vivarium pack build` makes the component. Means nothing once it is built.
    #[serde(default)]
    pub build: Option<Build>,
}

/// A permission and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What it asks for.
    pub permission: Permission,
    /// Why, in words a user understands.
    pub reason: String,
}

/// An example workflow, or a subgraph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// What UIs show.
    pub title: String,
    /// A `.json` file.
    pub file: String,
}

/// How to make the component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// A program and its arguments, run in the pack's folder.
    #[serde(default)]
    pub command: Vec<String>,
    /// What it leaves, relative to the pack's folder.
    pub component: String,
}

fn world() -> String {
    WORLD.to_owned()
}

/// What a file in a pack is for. There is no kind for code that runs in a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssetKind {
    /// Markdown.
    Help,
    /// JSON: workflows, subgraphs, translations.
    Workflow,
    /// PNG or WebP.
    Icon,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, PackError> {
        if text.len() > MANIFEST_BYTES {
            return Err(invalid(format!("it has {} bytes, more than {MANIFEST_BYTES}", text.len())));
        }
        let manifest: Self = toml::from_str(text).map_err(|error| invalid(flat(&error.to_string())))?;
        manifest.check().map_err(invalid)?;
        Ok(manifest)
    }

    /// Every file that it names, with its use.
    pub fn assets(&self) -> impl Iterator<Item = (&str, AssetKind)> {
        let help = self.help.values().map(|file| (file.as_str(), AssetKind::Help));
        let workflows = self.workflows.iter().map(|workflow| (workflow.file.as_str(), AssetKind::Workflow));
        let subgraphs = self.subgraphs.iter().map(|subgraph| (subgraph.file.as_str(), AssetKind::Workflow));
        let translations = self.translations.values().map(|file| (file.as_str(), AssetKind::Workflow));
        let texts = help.chain(workflows).chain(subgraphs).chain(translations);
        texts.chain(self.icon.iter().map(|file| (file.as_str(), AssetKind::Icon)))
    }

    /// Whether it asks for a permission.
    #[must_use]
    pub fn asks_for(&self, permission: &Permission) -> bool {
        self.permissions.iter().any(|request| request.permission == *permission)
    }

    fn check(&self) -> Result<(), String> {
        check_pack_name(&self.name)?;
        if self.world != WORLD {
            return Err(format!("it is built for the world {}, this version offers {WORLD}", shown(&self.world)));
        }
        self.check_sizes()?;
        self.check_texts()?;
        let mut asked = HashSet::new();
        if let Some(twice) = self.permissions.iter().find(|request| !asked.insert(&request.permission)) {
            return Err(format!("it asks for {} twice", twice.permission));
        }
        let mut seen = HashSet::new();
        for (path, kind) in self.assets() {
            check_path(path, kind)?;
            if !seen.insert(path.to_ascii_lowercase()) {
                return Err(format!(
                    "the file {path} is named twice; names that differ in case only count as the same"
                ));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), String> {
        let counts = [
            ("permissions", self.permissions.len()),
            ("help", self.help.len()),
            ("workflows", self.workflows.len()),
            ("subgraphs", self.subgraphs.len()),
            ("translations", self.translations.len()),
            ("replacements", self.replacements.len()),
        ];
        match counts.into_iter().find(|(_, count)| *count > ENTRIES) {
            Some((name, count)) => Err(format!("{name} has {count} entries, more than {ENTRIES}")),
            None => Ok(()),
        }
    }

    fn check_texts(&self) -> Result<(), String> {
        let lines = [("publisher", &self.publisher), ("license", &self.license), ("description", &self.description)];
        for (name, text) in lines {
            check_line(name, text)?;
        }
        for (name, text) in [("publisher", &self.publisher), ("license", &self.license)] {
            if text.trim().is_empty() {
                return Err(format!("{name} is empty"));
            }
        }
        for request in &self.permissions {
            check_line("a reason", &request.reason)?;
            if request.reason.trim().is_empty() {
                return Err(format!("it gives no reason for {}", request.permission));
            }
        }
        let titles = self.workflows.iter().chain(&self.subgraphs).map(|workflow| &workflow.title);
        let classes = self.replacements.iter().flat_map(|one| [&one.old_node_id, &one.new_node_id]);
        for text in titles.chain(classes).chain(self.help.keys()).chain(self.translations.keys()) {
            check_line("a name", text)?;
        }
        Ok(())
    }
}

/// A pack's name: it is part of file names, log lines and grants.
pub(crate) fn check_pack_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_LENGTH || name.starts_with('-') || !name.chars().all(plain) {
        return Err(format!(
            "the name {} is not 1 to {NAME_LENGTH} lower-case letters, digits and '-', beginning with no '-'",
            shown(name)
        ));
    }
    Ok(())
}

/// Lines end up in terminals, logs and pages: none may move a cursor or reorder what stands around it.
fn check_line(what: &str, text: &str) -> Result<(), String> {
    if text.len() > LINE_LENGTH {
        return Err(format!("{what} has {} bytes, more than {LINE_LENGTH}", text.len()));
    }
    match text.chars().find(|&c| is_deceptive(c)) {
        Some(c) => Err(format!("{what} holds the invisible character U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// Control characters, and those that hide or reorder text.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        // Tags: invisible letters, by which a text says something else to a program than to a person.
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// A path inside of a pack: two levels at most, nothing that any file system could take for something else.
pub(crate) fn check_path(path: &str, kind: AssetKind) -> Result<(), String> {
    let endings: &[&str] = match kind {
        AssetKind::Help => &[".md"],
        AssetKind::Workflow => &[".json"],
        AssetKind::Icon => &[".png", ".webp"],
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    if path.len() > 200 || path.split('/').count() > 4 || !path.split('/').all(part) {
        return Err(format!(
            "the file name {} is not allowed: a name is relative, its parts are letters, digits, '-', '_' and '.', and \
             none begins with '.'",
            shown(path)
        ));
    }
    if !endings.iter().any(|ending| path.ends_with(ending)) {
        return Err(format!("the file {path} should end in {}", endings.join(" or ")));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

/// An error of the TOML parser on one line; its first lines draw an arrow below the text.
fn flat(text: &str) -> String {
    let flat: Vec<&str> = text.split_whitespace().collect();
    flat.join(" ").chars().filter(|&c| !is_deceptive(c)).take(LINE_LENGTH).collect()
}

fn invalid(message: String) -> PackError {
    PackError::Manifest { message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PLAIN: &str = "name = \"x\"\nversion = \"1.0.0\"\npublisher = \"P\"\nlicense = \"MIT\"\n";

    fn refused(more: &str) -> String {
        Manifest::parse(&format!("{PLAIN}{more}")).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = Manifest::parse(&format!(
            "{PLAIN}icon = \"icon.png\"\n[help]\nBlur = \"help/Blur.md\"\n[[workflows]]\ntitle = \"First\"\nfile = \"w/a.json\"\n\
             [[permissions]]\npermission = \"models/vae\"\nreason = \"It decodes.\"\n\
             [[replacements]]\nold_node_id = \"Old\"\nnew_node_id = \"Blur\"\n"
        ))
        .unwrap();
        assert_eq!(manifest.world, WORLD);
        let files: Vec<&str> = manifest.assets().map(|(file, _)| file).collect();
        assert_eq!(files, ["help/Blur.md", "w/a.json", "icon.png"]);
        assert!(manifest.asks_for(&"models/vae".parse().unwrap()));
    }

    #[test]
    fn a_manifest_that_lies_hides_or_leaves_its_folder_is_refused() {
        let cases = [
            ("icon = \"../icon.png\"", "not allowed"),
            ("icon = \"/icon.png\"", "not allowed"),
            ("icon = \"a\\\\b.png\"", "not allowed"),
            ("icon = \".hidden.png\"", "not allowed"),
            ("icon = \"page.html\"", "should end in .png or .webp"),
            ("icon = \"script.js\"", "should end in"),
            ("[help]\nA = \"a.md\"\nB = \"A.md\"", "named twice"),
            ("description = \"safe \\u202e exe\"", "U+202E"),
            ("description = \"\\u001b[2J\"", "U+001B"),
            ("javascript = \"x.js\"", "unknown field"),
            ("world = \"vivarium:node/pack@9.0.0\"", "this version offers"),
            ("[[permissions]]\npermission = \"everything\"\nreason = \"x\"", "is not a permission"),
            ("[[permissions]]\npermission = \"models/vae\"\nreason = \" \"", "no reason"),
        ];
        for (more, said) in cases {
            let message = refused(more);
            assert!(message.contains(said) && !message.contains('\n'), "{more}: {message}");
        }
        assert!(Manifest::parse(&"#".repeat(MANIFEST_BYTES + 1)).unwrap_err().to_string().contains("more than"));
    }
}

//! `vivarium pack new`: a folder with a pack that works, to be changed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use vivarium_packs::manifest::Manifest;

use super::template::Language;
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    output::say,
};

/// Where the SDK is, when it is not beside this program.
const REPOSITORY: &str = "https://github.com/vivarium-server/vivarium";

/// Begin a pack: one node, a test, help and an example workflow.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack new my-pack
  vivarium pack new my-pack --language python --publisher \"Ada\"
  vivarium pack new my-pack --language typescript
  vivarium pack new my-pack --sdk ~/vivarium/guest-sdk/rust

Then:
  cd my-pack
  vivarium pack test                 builds it, tests it, runs its example workflow in the sandbox
  vivarium pack install . --allow-unsigned")]
pub(crate) struct New {
    /// Its name: lower-case letters, digits and '-'
    name: String,

    /// What it is written in
    #[arg(long, value_enum, default_value_t)]
    language: Language,

    /// Where to put it [default: a folder of that name]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Who publishes it
    #[arg(long, default_value = "Somebody")]
    publisher: String,

    /// The folder of the SDK for Rust [default: the one beside this program, else the one on the web]
    #[arg(long, value_name = "DIR", env = "VIVARIUM_SDK")]
    sdk: Option<PathBuf>,
}

impl New {
    pub(crate) fn run(self) -> Outcome<()> {
        let folder = self.folder.clone().unwrap_or_else(|| self.name.clone().into());
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            fail!(Exit::Usage, "{} is there already and not empty", folder.display());
        }
        let filled = self.fill_in()?;
        for (path, content) in filled {
            let path = folder.join(path);
            let doing = || format!("could not write {}", path.display());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).or_fail(Exit::Machine, doing)?;
            }
            fs::write(&path, content).or_fail(Exit::Machine, doing)?;
        }
        say!("{}", folder.display());
        let first = self.language.first_step().map(|step| format!("{step} && ")).unwrap_or_default();
        eprintln!("Next: cd {} && {first}vivarium pack test", folder.display());
        Ok(())
    }

    fn fill_in(&self) -> Outcome<Vec<(&'static str, String)>> {
        if !self.name.starts_with(|c: char| c.is_ascii_lowercase()) {
            fail!(Exit::Usage, "`{}` does not begin with a lower-case letter, as names in Rust have to", self.name);
        }
        // Quotes and backslashes would end the strings that it is put into.
        let publisher: String =
            self.publisher.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
        let (sdk, testkit) = if self.language == Language::Rust { self.sdk()? } else { Default::default() };
        let class = class_name(&self.name);
        let fill = |text: &str| {
            text.replace("{{name}}", &self.name)
                .replace("{{crate}}", &self.name.replace('-', "_"))
                .replace("{{class}}", &class)
                .replace("{{publisher}}", &publisher)
                .replace("{{sdk}}", &sdk)
                .replace("{{testkit}}", &testkit)
        };
        let files = self.language.files();
        let filled: Vec<(&str, String)> = files.into_iter().map(|(path, text)| (path, fill(&text))).collect();
        let manifest = filled.iter().find(|(path, _)| *path == "pack.toml").map(|(_, text)| text.as_str());
        // Says what is wrong with the name.
        Manifest::parse(manifest.unwrap_or_default()).or_fail(Exit::Usage, || format!("`{}`", self.name))?;
        Ok(filled)
    }

    /// The SDK and the testkit, as dependencies stand in Cargo.toml.
    fn sdk(&self) -> Outcome<(String, String)> {
        let Some(folder) = self.sdk.clone().or_else(sdk_beside_this_program) else {
            let dependency = format!("{{ git = \"{REPOSITORY}\" }}");
            return Ok((dependency.clone(), dependency));
        };
        let dependency = |folder: &Path| {
            let absolute = fs::canonicalize(folder).ok().filter(|folder| folder.join("Cargo.toml").is_file());
            absolute.map(|folder| format!("{{ path = {} }}", serde_json::Value::from(folder.display().to_string())))
        };
        match (dependency(&folder), dependency(&folder.join("../testkit"))) {
            (Some(sdk), Some(testkit)) => Ok((sdk, testkit)),
            _ => fail!(
                Exit::Machine,
                "there is no SDK in {}: it should be the folder guest-sdk/rust of the repository",
                folder.display()
            ),
        }
    }
}

/// `my-pack` becomes `MyPackBrighten`: no two packs may have a class of the same name.
fn class_name(pack: &str) -> String {
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    pack.split('-').map(capitalised).chain(["Brighten".to_owned()]).collect()
}

/// In a checkout, this program is in `target/PROFILE`.
fn sdk_beside_this_program() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let sdk = program.ancestors().nth(3)?.join("guest-sdk/rust");
    Path::is_dir(&sdk).then_some(sdk)
}

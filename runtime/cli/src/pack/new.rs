//! `vivarium pack new`: a folder with a pack that works, to be changed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use vivarium_packs::manifest::Manifest;

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    output::say,
};

/// The files of the template. `{{name}}` and the like are filled in.
const TEMPLATE: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../../../guest-sdk/templates/rust/Cargo.toml.txt")),
    ("pack.toml", include_str!("../../../../guest-sdk/templates/rust/pack.toml")),
    ("src/lib.rs", include_str!("../../../../guest-sdk/templates/rust/src/lib.rs")),
    ("help/brighten.md", include_str!("../../../../guest-sdk/templates/rust/help/brighten.md")),
    ("workflows/brighten.json", include_str!("../../../../guest-sdk/templates/rust/workflows/brighten.json")),
    (".gitignore", include_str!("../../../../guest-sdk/templates/rust/dot-gitignore")),
];
/// Where the SDK is, when it is not beside this program.
const REPOSITORY: &str = "https://github.com/vivarium-server/vivarium";

/// Begin a pack in Rust: one node, a test, help and an example workflow.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack new my-pack
  vivarium pack new my-pack --publisher \"Ada\" --sdk ~/vivarium/guest-sdk/rust

Then:
  cd my-pack
  vivarium pack test                 builds it, tests it, runs its example workflow in the sandbox
  vivarium pack install . --allow-unsigned")]
pub(crate) struct New {
    /// Its name: lower-case letters, digits and '-'
    name: String,

    /// Where to put it [default: a folder of that name]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Who publishes it
    #[arg(long, default_value = "Somebody")]
    publisher: String,

    /// The folder of the SDK [default: the one beside this program, else the one on the web]
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
        eprintln!("Next: cd {} && vivarium pack test", folder.display());
        Ok(())
    }

    fn fill_in(&self) -> Outcome<Vec<(&'static str, String)>> {
        if !self.name.starts_with(|c: char| c.is_ascii_lowercase()) {
            fail!(Exit::Usage, "`{}` does not begin with a lower-case letter, as names in Rust have to", self.name);
        }
        // Quotes and backslashes would end the strings that it is put into.
        let publisher: String =
            self.publisher.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
        let (sdk, class) = (self.sdk()?, class_name(&self.name));
        let fill = |text: &str| {
            text.replace("{{name}}", &self.name)
                .replace("{{crate}}", &self.name.replace('-', "_"))
                .replace("{{class}}", &class)
                .replace("{{publisher}}", &publisher)
                .replace("{{sdk}}", &sdk)
        };
        let filled: Vec<(&str, String)> = TEMPLATE.iter().map(|(path, text)| (*path, fill(text))).collect();
        let manifest = filled.iter().find(|(path, _)| *path == "pack.toml").map(|(_, text)| text.as_str());
        // Says what is wrong with the name.
        Manifest::parse(manifest.unwrap_or_default()).or_fail(Exit::Usage, || format!("`{}`", self.name))?;
        Ok(filled)
    }

    /// The dependency, as it stands in Cargo.toml.
    fn sdk(&self) -> Outcome<String> {
        let Some(folder) = self.sdk.clone().or_else(sdk_beside_this_program) else {
            return Ok(format!("{{ git = \"{REPOSITORY}\" }}"));
        };
        let absolute =
            fs::canonicalize(&folder).or_fail(Exit::Machine, || format!("there is no SDK in {}", folder.display()))?;
        if !absolute.join("Cargo.toml").is_file() {
            fail!(Exit::Machine, "there is no SDK in {}: it should be the folder guest-sdk/rust", folder.display());
        }
        Ok(format!("{{ path = {} }}", serde_json::Value::from(absolute.display().to_string())))
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

//! What `vivarium pack new` copies: the folders of `guest-sdk/templates`, which are in this program.

use clap::ValueEnum;

/// A language in which packs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Quick to start and to run; needs cargo
    #[default]
    Rust,
    /// CPython in the component: 19 MB; needs componentize-py
    Python,
    /// QuickJS in the component: 1.2 MB; needs componentize-qjs (npm)
    #[value(alias = "js")]
    Javascript,
    /// As JavaScript, with types; needs npm
    #[value(alias = "ts")]
    Typescript,
}

macro_rules! file {
    ($path:literal from $source:literal) => {
        ($path, include_str!(concat!("../../../../guest-sdk/", $source)))
    };
}

/// In every template. `{{name}}` and the like are filled in.
const SHARED: [(&str, &str); 2] = [
    file!("help/brighten.md" from "templates/shared/help/brighten.md"),
    file!("workflows/brighten.json" from "templates/shared/workflows/brighten.json"),
];

const MANIFEST: &str = include_str!("../../../../guest-sdk/templates/shared/pack.toml");

const RUST: [(&str, &str); 3] = [
    file!("Cargo.toml" from "templates/rust/Cargo.toml.txt"),
    file!("src/lib.rs" from "templates/rust/src/lib.rs"),
    file!(".gitignore" from "templates/rust/dot-gitignore"),
];

const PYTHON: [(&str, &str); 3] = [
    file!("app.py" from "templates/python/app.py"),
    file!("vivarium_node.py" from "templates/python/vivarium_node.py"),
    file!(".gitignore" from "templates/python/dot-gitignore"),
];
const PYTHON_BUILD: &str = include_str!("../../../../guest-sdk/templates/python/build.toml");

const JAVASCRIPT: [(&str, &str); 4] = [
    file!("app.js" from "templates/javascript/app.js"),
    file!("vivarium-node.js" from "templates/javascript/vivarium-node.js"),
    file!("package.json" from "templates/javascript/package.json"),
    file!(".gitignore" from "templates/javascript/dot-gitignore"),
];
const JAVASCRIPT_BUILD: &str = include_str!("../../../../guest-sdk/templates/javascript/build.toml");

const TYPESCRIPT: [(&str, &str); 6] = [
    file!("app.ts" from "templates/typescript/app.ts"),
    file!("vivarium-node.d.ts" from "templates/typescript/vivarium-node.d.ts"),
    file!("vivarium-node.js" from "templates/javascript/vivarium-node.js"),
    file!("package.json" from "templates/typescript/package.json"),
    file!("tsconfig.json" from "templates/typescript/tsconfig.json"),
    file!(".gitignore" from "templates/javascript/dot-gitignore"),
];
const TYPESCRIPT_BUILD: &str = include_str!("../../../../guest-sdk/templates/typescript/build.toml");

/// The interface, for languages whose tools read it when they build. In Rust it is part of the SDK.
const WIT: [(&str, &str); 7] = [
    file!("wit/pack.wit" from "templates/shared/pack.wit"),
    file!("wit/deps/vivarium-node/host.wit" from "wit/v1/host.wit"),
    file!("wit/deps/vivarium-node/outside.wit" from "wit/v1/outside.wit"),
    file!("wit/deps/vivarium-node/tensors.wit" from "wit/v1/tensors.wit"),
    file!("wit/deps/vivarium-node/types.wit" from "wit/v1/types.wit"),
    file!("wit/deps/vivarium-node/values.wit" from "wit/v1/values.wit"),
    file!("wit/deps/vivarium-node/world.wit" from "wit/v1/world.wit"),
];

impl Language {
    /// Paths and contents, not filled in yet; `pack.toml` first.
    pub(super) fn files(self) -> Vec<(&'static str, String)> {
        let (own, build, wit): (&[_], _, &[_]) = match self {
            Self::Rust => (&RUST, "", &[]),
            Self::Python => (&PYTHON, PYTHON_BUILD, &WIT),
            Self::Javascript => (&JAVASCRIPT, JAVASCRIPT_BUILD, &WIT),
            Self::Typescript => (&TYPESCRIPT, TYPESCRIPT_BUILD, &WIT),
        };
        let others = SHARED.iter().chain(own).chain(wit).map(|(path, text)| (*path, (*text).to_owned()));
        std::iter::once(("pack.toml", format!("{MANIFEST}{build}"))).chain(others).collect()
    }

    /// What has to be done before the pack builds.
    pub(super) fn first_step(self) -> Option<&'static str> {
        match self {
            Self::Rust => None,
            Self::Python => Some(PYTHON_TOOL),
            Self::Javascript | Self::Typescript => Some(JAVASCRIPT_TOOL),
        }
    }
}

const PYTHON_TOOL: &str = "python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1";
const JAVASCRIPT_TOOL: &str = "npm install";

/// How to get a program that builds packs, in the pack's folder.
pub(super) fn installs(program: &str) -> Option<&'static str> {
    match program {
        "componentize-py" => Some(PYTHON_TOOL),
        "componentize-qjs" | "npm" => Some(JAVASCRIPT_TOOL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_whole_interface_is_in_the_templates() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/wit/v1");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = format!("wit/deps/vivarium-node/{}", path.file_name().unwrap().to_str().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(WIT.contains(&(&name, &text)), "{name} is not in the list WIT");
        }
    }

    #[test]
    fn the_tools_that_are_named_are_of_the_version_that_is_tested() {
        for template in [&JAVASCRIPT[..], &TYPESCRIPT] {
            let pinned = template.iter().find(|(path, _)| *path == "package.json").unwrap().1;
            assert!(pinned.contains("\"componentize-qjs\": \"0.4.5\""));
        }
        assert!(PYTHON_BUILD.contains(PYTHON_TOOL), "pack.toml names another version of componentize-py");
    }
}

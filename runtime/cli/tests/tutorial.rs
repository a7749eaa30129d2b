//! Does what `docs/tutorial.md` says, word by word, as one shell script: its ```sh blocks are commands, and a block whose
//! first line names a file after the language is the content of that file.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::Place;

/// The script: every step in order, each announced.
fn script(page: &str) -> String {
    let mut script = "set -euo pipefail\n".to_owned();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match fence.split_once(' ') {
            Some((_, file)) => {
                let content = block.join("\n");
                script +=
                    &format!("mkdir -p \"$(dirname {file})\"\ncat > {file} <<'END OF FILE'\n{content}\nEND OF FILE\n");
            }
            None if fence == "sh" => {
                for command in block {
                    script += &format!("echo '$ {}' >&2\n{command}\n", command.replace('\'', ""));
                }
            }
            None => {}
        }
    }
    script
}

#[test]
fn the_tutorial_works_word_by_word() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorial.md")).unwrap();
    let script = script(&page);
    let place = Place::new();
    let programs = Path::new(env!("CARGO_BIN_EXE_vivarium")).parent().unwrap();
    let path =
        env::join_paths(std::iter::once(programs.to_owned()).chain(env::split_paths(&env::var_os("PATH").unwrap())));
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(&script).current_dir(place.path("."));
    shell.env("PATH", path.unwrap()).env("VIVARIUM_BASE", place.path("base")).env_remove("VIVARIUM_SERVER");
    shell.env("XDG_CONFIG_HOME", place.path("config")).env_remove("VIVARIUM");
    // Shared with the test of the template, so that the SDK is compiled for packs once.
    shell.env("CARGO_TARGET_DIR", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("template"));
    let output = shell.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for wanted in
        ["3 passed", "workflows/glow.json: ran", "signed by ed25519:", "my-glow 0.1.0 is installed", "glow_00001_.png"]
    {
        assert!(said.contains(wanted), "{wanted} is missing in {said}");
    }
}

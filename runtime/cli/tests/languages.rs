//! Packs in Python, JavaScript and TypeScript, from the template to a picture. They need tools from PyPI and npm, so they are ignored
//! unless asked for: `cargo xtask test guests` runs them where `.ci/run` installed those.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, process::Command};

use support::{Place, ended, vivarium};

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

/// Makes a pack of the template, tests and builds it, and runs its node on a grey picture; then as Rust would.
fn lives(language: &str) {
    let place = Place::new();
    let folder = place.text("pack");
    said(&mut vivarium(&["pack", "new", "my-pack", "--language", language, "--folder", &folder]));
    let tested = said(&mut vivarium(&["pack", "test", &folder]));
    assert!(tested.contains("workflows/brighten.json: ran") && tested.contains("my-pack passed"), "{tested}");

    let file = place.text("pack.wasm");
    said(&mut vivarium(&["pack", "build", &folder, "-o", &file]));
    let shown = said(&mut vivarium(&["pack", "check", &file]));
    assert!(shown.contains("MyPackBrighten") && !shown.contains("models"), "{shown}");

    vivarium_testkit::use_program(env!("CARGO_BIN_EXE_vivarium"));
    let pack = vivarium_testkit::Pack::from_file(&file);
    let image = vivarium_testkit::Image::filled(4, 4, [0.25, 0.5, 0.75]);
    let brighten = pack.node("MyPackBrighten").input("image", image).input("stops", 1.0);
    assert_eq!(brighten.run().output(0).image().pixel(3, 3), [0.5, 1.0, 1.0]);
    let wrong = pack.node("MyPackBrighten").input("image", "no image").fails();
    assert_eq!(wrong.kind(), vivarium_testkit::FailureKind::Failed, "{wrong}");
}

#[test]
#[ignore = "needs componentize-py: `cargo xtask test guests`"]
fn a_pack_in_python_lives() {
    lives("python");
}

#[test]
#[ignore = "needs componentize-qjs: `cargo xtask test guests`"]
fn a_pack_in_javascript_lives() {
    lives("javascript");
}

#[test]
#[ignore = "needs esbuild and tsc: `cargo xtask test guests`"]
fn a_pack_in_typescript_lives_and_its_types_agree() {
    lives("typescript");
    let place = Place::new();
    let folder = place.text("pack");
    said(&mut vivarium(&["pack", "new", "my-pack", "--language", "ts", "--folder", &folder]));
    let check = || Command::new("tsc").current_dir(&folder).output().unwrap();
    let checked = check();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let source = fs::read_to_string(place.path("pack/app.ts")).unwrap();
    fs::write(place.path("pack/app.ts"), source.replace("multiply(image, 2 ** stops)", "multiply(stops, image)"))
        .unwrap();
    assert!(!check().status.success(), "a number is no tensor");
}

#[test]
fn a_missing_tool_is_named_with_the_command_that_installs_it() {
    for (language, tool, step) in [
        ("python", "componentize-py", "pip install componentize-py=="),
        ("javascript", "componentize-qjs", "npm install"),
    ] {
        let place = Place::new();
        let folder = place.text("pack");
        let (code, _, stderr) = ended(&["pack", "new", "my-pack", "--language", language, "--folder", &folder]);
        assert!(code == 0 && stderr.contains(step), "{stderr}");
        let output = vivarium(&["pack", "build", &folder]).env("PATH", "/nowhere").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(tool) && stderr.contains(step), "{stderr}");
        assert!(fs::read_to_string(place.path("pack/pack.toml")).unwrap().contains(tool));
    }
}

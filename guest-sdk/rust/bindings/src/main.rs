//! Writes `src/bindings.rs` of `vivarium-node`: what wit-bindgen makes of `guest-sdk/wit/v1`.
//!
//! It stands in the repository, because otherwise everybody who builds a pack would compile wit-bindgen first, for the pack and
//! once more for its tests: that took longer than all the rest. `cargo run -p vivarium-node-bindings` in `guest-sdk/rust` writes
//! it anew.
#![forbid(unsafe_code)]

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};
use wit_bindgen_rust::Opts;

const BEGINNING: &str = "\
//! The bindings that wit-bindgen makes out of `guest-sdk/wit/v1`. Node authors use the wrappers; this is the raw floor
//! beneath them.
//!
//! Not to be changed by hand: `cargo run -p vivarium-node-bindings` writes it.
#![allow(missing_docs, unsafe_code, unreachable_pub, rustdoc::all)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

";

/// `guest-sdk/rust`.
fn sdk() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bindings() -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(sdk().join("../wit/v1"))?;
    let world = resolve.select_world(&[package], Some("pack"))?;
    let options = Opts {
        format: true,
        pub_export_macro: true,
        export_macro_name: Some("export_pack".to_owned()),
        default_bindings_module: Some("vivarium_node::bindings".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, code) = files.iter().next().context("wit-bindgen wrote no file")?;
    Ok(format!("{BEGINNING}{}", str::from_utf8(code)?))
}

fn main() -> Result<()> {
    let file = sdk().join("src/bindings.rs");
    fs::write(&file, bindings()?).with_context(|| format!("could not write {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_bindings_are_those_of_the_interface() {
        let is_so = fs::read_to_string(sdk().join("src/bindings.rs")).unwrap() == bindings().unwrap();
        assert!(
            is_so,
            "guest-sdk/wit/v1 or wit-bindgen changed: `cargo run -p vivarium-node-bindings` writes src/bindings.rs"
        );
    }
}

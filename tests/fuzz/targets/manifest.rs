//! `pack.toml`: read or refused in words. What is read names no file outside of the pack, and shows nobody text that hides.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_packs::manifest::Manifest;

fuzz_target!(|text: &str| {
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(refused) => {
            assert!(refused.to_string().chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{refused:?}");
            return;
        }
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(!manifest.name.is_empty() && manifest.name.chars().all(plain), "{:?}", manifest.name);
    for (path, _) in manifest.assets() {
        let usual = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0', ':']);
        assert!(path.split('/').all(usual), "{path:?}");
    }
    for shown in [&manifest.publisher, &manifest.license, &manifest.description] {
        assert!(!shown.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')), "{shown:?}");
    }
    for request in &manifest.permissions {
        assert!(manifest.asks_for(&request.permission), "{:?}", request.permission);
    }
});

//! A pack file as somebody sends it, up to where the compiling process takes over: sections, manifest, files, signature. What is
//! read is read the same again, and survives being put together anew and signed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vivarium_packs::{file::PackFile, signature::SigningKey};

const LIMIT: u64 = 1 << 20;
static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

fuzz_target!(|bytes: &[u8]| {
    // The compiling process starts with this; its answer is only whether, and the code is not ours.
    let is_component = wasmparser::Validator::new().validate_all(bytes).is_ok();
    let pack = match PackFile::parse(bytes.to_vec(), LIMIT) {
        Ok(pack) => pack,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    assert_eq!(pack.bytes(), bytes);
    if is_component {
        assert!(vivarium_sandbox::check_header(bytes).is_ok());
    }
    let Some(manifest) = pack.manifest() else {
        assert!(pack.signer().is_none());
        return;
    };
    for (path, _) in manifest.assets() {
        assert!(pack.asset(path).is_some(), "{path}");
    }
    let signed = pack.signed(&KEY, 2 * LIMIT).expect("what was read can be signed");
    assert_eq!(signed.signer(), Some(&KEY.public()));
    let again = PackFile::parse(signed.bytes().to_vec(), 2 * LIMIT).expect("what was signed is read");
    assert_eq!(again.digest(), signed.digest());
});

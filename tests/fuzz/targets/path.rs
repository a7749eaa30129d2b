//! Names that clients send: whatever they are, what is opened lies in the folder. Subfolder and name stand on two lines. The
//! folder holds links that lead out, and a file of the same names lies outside.

#![no_main]

use std::{fs, io::Read, os::unix::fs::symlink, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use vivarium_blobs::{AnnotatedName, BlobStore, Folder, RelativePath, TenantDirs, TenantFiles};
use vivarium_protocol::tenant::TenantId;

const SECRET: &[u8] = b"lies outside";

struct Place {
    _base: tempfile::TempDir,
    files: TenantFiles,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let base = tempfile::tempdir().expect("a folder");
    let inside = base.path().join("tenant");
    let tenant = TenantId::default_tenant();
    let store = BlobStore::open(&base.path().join("store")).expect("a store");
    let files = TenantFiles::open(tenant.clone(), store, TenantDirs::below(&inside, &tenant)).expect("folders");
    for name in ["secret", "a.png"] {
        fs::write(base.path().join(name), SECRET).expect("a file outside");
        fs::write(inside.join(name), SECRET).expect("a file beside the folders");
        fs::write(inside.join("user").join(name), SECRET).expect("a file of the user");
    }
    let input = inside.join("input");
    fs::create_dir_all(input.join("sub")).expect("a folder");
    fs::write(input.join("a.png"), "inside").expect("a file");
    fs::write(input.join("sub/a.png"), "inside").expect("a file");
    symlink("../../secret", input.join("link")).expect("a link");
    symlink("../..", input.join("out")).expect("a link");
    symlink(base.path(), input.join("sub/out")).expect("a link");
    Place { _base: base, files }
});

fuzz_target!(|text: &str| {
    let (subfolder, name) = text.split_once('\n').unwrap_or(("", text));
    if let Ok(path) = RelativePath::parse(text) {
        let shown = path.as_str();
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        assert!(shown.is_empty() || shown.split('/').all(plain), "{shown:?}");
        assert_eq!(RelativePath::parse(shown).expect("what was accepted is accepted"), path);
    }
    for folder in Folder::ALL {
        let opened = [
            PLACE.files.open_file(folder, subfolder, name),
            PLACE.files.open_named(&AnnotatedName::parse(name), folder),
        ];
        for mut file in opened.into_iter().flatten() {
            let mut content = Vec::new();
            file.file.read_to_end(&mut content).expect("a file that was opened is read");
            assert_ne!(content, SECRET, "{text:?}");
        }
    }
});

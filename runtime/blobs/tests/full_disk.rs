//! What a full disk does. Needs a directory on a small disk of its own, so it runs only when asked:
//! `mount -t tmpfs -o size=4m none DIR; VIVARIUM_TEST_SMALL_DISK=DIR cargo test -p vivarium-blobs --test full_disk -- --ignored`
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use vivarium_blobs::{BlobError, BlobStore, Folder, TenantDirs, TenantFiles};
use vivarium_protocol::tenant::TenantId;

#[test]
#[ignore = "needs a small disk"]
fn a_full_disk_is_told_costs_no_old_file_and_heals() {
    let base = PathBuf::from(std::env::var("VIVARIUM_TEST_SMALL_DISK").unwrap()).join("blobs-test");
    let store = BlobStore::open(&base.join("blobs")).unwrap();
    let tenant = TenantId::default_tenant();
    let files = TenantFiles::open(tenant.clone(), Arc::clone(&store), TenantDirs::below(&base, &tenant)).unwrap();
    files.user_data().write("workflows/w.json", b"old", true).unwrap();
    let mut staged = store.stage(None).unwrap();
    let error = std::iter::repeat_with(|| staged.write(&[7; 65536])).find_map(Result::err).unwrap();
    assert!(matches!(error, BlobError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("blobs-test") && error.to_string().contains("full"), "{error}");
    let error = files.user_data().write("workflows/w.json", &[b'x'; 200_000], true).unwrap_err();
    assert!(matches!(error, BlobError::DiskFull { .. }), "{error:?}");
    assert_eq!(files.user_data().open_file("workflows/w.json").unwrap().len, 3, "the old content stays");
    drop(staged);
    let mut staged = store.stage(None).unwrap();
    staged.write(&[8; 65536]).unwrap();
    files.save_upload(Folder::Input, "", "fits.bin", staged, false).unwrap();
    std::fs::remove_dir_all(base).unwrap();
}

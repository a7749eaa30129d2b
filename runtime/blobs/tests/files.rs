//! Naming rules, races and hostile names on real folders.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use vivarium_blobs::{
    AnnotatedName, Blob, BlobError, BlobStore, Digest, Durability, Folder, OutputName, Staged, TenantDirs, TenantFiles,
};
use vivarium_protocol::tenant::TenantId;

struct Bench {
    base: tempfile::TempDir,
    store: Arc<BlobStore>,
    files: TenantFiles,
}

fn bench() -> Bench {
    let base = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&base.path().join("blobs")).unwrap();
    let tenant = TenantId::default_tenant();
    let dirs = TenantDirs::below(base.path(), &tenant);
    let files = TenantFiles::open(tenant, Arc::clone(&store), dirs).unwrap();
    Bench { base, store, files }
}

impl Bench {
    fn path(&self, below: &str) -> std::path::PathBuf {
        self.base.path().join(below)
    }

    fn staged(&self, bytes: &[u8]) -> Staged {
        let mut staged = self.store.stage(None).unwrap();
        staged.write(bytes).unwrap();
        staged
    }

    fn blob(&self, bytes: &[u8]) -> Blob {
        self.store.put(bytes, Durability::Fast).unwrap()
    }

    fn upload(&self, name: &str, bytes: &[u8], overwrite: bool) -> Result<String, BlobError> {
        self.files.save_upload(Folder::Input, "", name, self.staged(bytes), overwrite).map(|saved| saved.name)
    }

    fn save(&self, prefix: &str, bytes: &[u8]) -> String {
        let name = OutputName::new(prefix, 8, 8).unwrap();
        self.files.save_output(Folder::Output, &name, 0, "png", &self.blob(bytes)).unwrap().name
    }
}

fn hidden_files(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".vivarium"))
        .count()
}

fn files_below(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { usize::from(path.file_name().unwrap() != "lock") })
        .sum()
}

#[test]
fn uploads_are_named_as_comfyui_names_them() {
    let bench = bench();
    assert_eq!(bench.upload("cat.png", b"one", false).unwrap(), "cat.png");
    assert_eq!(bench.upload("cat.png", b"one", false).unwrap(), "cat.png", "same bytes reuse the name");
    assert_eq!(bench.upload("cat.png", b"two", false).unwrap(), "cat (1).png");
    assert_eq!(bench.upload("cat.png", b"three", false).unwrap(), "cat (2).png");
    assert_eq!(bench.upload("cat.png", b"two", false).unwrap(), "cat (1).png");
    assert_eq!(bench.upload("cat.png", b"four", true).unwrap(), "cat.png");
    assert_eq!(fs::read(bench.path("input/cat.png")).unwrap(), b"four");
    let saved = bench.files.save_upload(Folder::Temp, "a//b/.", "x.bin", bench.staged(b"x"), false).unwrap();
    assert_eq!((saved.name.as_str(), saved.subfolder.as_str(), saved.folder), ("x.bin", "a//b/.", Folder::Temp));
    assert_eq!(fs::read(bench.path("temp/a/b/x.bin")).unwrap(), b"x");
}

#[test]
fn a_file_put_there_by_hand_counts_for_uploads_and_counters() {
    let bench = bench();
    fs::write(bench.path("input/cat.png"), b"by hand").unwrap();
    assert_eq!(bench.upload("cat.png", b"by hand", false).unwrap(), "cat.png");
    assert_eq!(bench.upload("cat.png", b"by HAND", false).unwrap(), "cat (1).png");
    assert_eq!(bench.save("x", b"1"), "x_00001_.png");
    fs::write(bench.path("output/x_00041_.png"), b"by hand").unwrap();
    // The clock of the folder may tick only every few milliseconds.
    std::thread::sleep(Duration::from_millis(30));
    fs::write(bench.path("output/unrelated"), b"").unwrap();
    assert_eq!(bench.save("x", b"1"), "x_00042_.png");
    assert_eq!(fs::read(bench.path("output/x_00041_.png")).unwrap(), b"by hand");
}

#[test]
fn overwriting_a_name_leaves_its_twin_and_the_blob_alone() {
    let bench = bench();
    bench.upload("a.png", b"shared", false).unwrap();
    bench.upload("b.png", b"shared", false).unwrap();
    let inode = |name| fs::metadata(bench.path(name)).unwrap().ino();
    assert_eq!(inode("input/a.png"), inode("input/b.png"), "the bytes are shared");
    bench.upload("a.png", b"changed", true).unwrap();
    assert_eq!(fs::read(bench.path("input/b.png")).unwrap(), b"shared");
    let mut blob = Vec::new();
    bench.store.open_blob(Digest::of(b"shared")).unwrap().read_to_end(&mut blob).unwrap();
    assert_eq!(blob, b"shared");
    // Renaming a link onto its twin does nothing; the hidden name must go all the same.
    bench.upload("a.png", b"changed", true).unwrap();
    assert_eq!(hidden_files(&bench.path("input")), 0);
}

#[test]
fn files_are_readable_by_others_and_writable_by_nobody() {
    let bench = bench();
    bench.upload("a.png", b"x", false).unwrap();
    bench.files.user_data().write("workflows/a.json", b"{}", true).unwrap();
    let mode = |name| fs::metadata(bench.path(name)).unwrap().mode() & 0o777;
    let plain = bench.path("plain");
    fs::write(&plain, b"").unwrap();
    let usual = fs::metadata(&plain).unwrap().mode() & 0o777;
    assert_eq!(mode("input/a.png"), usual & 0o444);
    assert_eq!(mode("user/default/workflows/a.json"), usual);
}

#[test]
fn a_blob_that_was_edited_by_force_is_put_right() {
    let bench = bench();
    bench.upload("a.png", b"genuine", false).unwrap();
    fs::set_permissions(bench.path("input/a.png"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(bench.path("input/a.png"), b"vandals").unwrap();
    bench.upload("b.png", b"genuine", false).unwrap();
    assert_eq!(fs::read(bench.path("input/b.png")).unwrap(), b"genuine");
    assert_eq!(fs::read(bench.path("input/a.png")).unwrap(), b"vandals", "the user's edit stays");
}

#[test]
fn an_abandoned_or_too_large_upload_leaves_nothing() {
    let bench = bench();
    drop(bench.staged(b"abandoned"));
    let mut staged = bench.store.stage(Some(4)).unwrap();
    staged.write(b"1234").unwrap();
    assert!(matches!(staged.write(b"5"), Err(BlobError::TooLarge { limit: 4 })));
    drop(staged);
    assert!(bench.files.save_upload(Folder::Input, "..", "x", bench.staged(b"x"), false).is_err());
    assert!(bench.files.save_upload(Folder::Input, "", "no/such/folder", bench.staged(b"y"), false).is_err());
    assert_eq!(files_below(&bench.path("blobs/staging")), 0);
    assert_eq!(files_below(&bench.path("input")), 0);
}

#[test]
fn a_directory_in_the_way_is_named() {
    let bench = bench();
    fs::create_dir(bench.path("input/cat.png")).unwrap();
    assert_eq!(bench.upload("cat.png", b"x", false).unwrap(), "cat (1).png");
    let error = bench.upload("cat.png", b"x", true).unwrap_err();
    assert_eq!(error.to_string(), "input/cat.png is a directory, not a file");
    fs::write(bench.path("input/file"), b"").unwrap();
    let error = bench.files.save_upload(Folder::Input, "file", "x", bench.staged(b"x"), false).unwrap_err();
    assert_eq!(error.to_string(), "input/file is not a directory");
}

#[test]
fn links_inside_work_and_links_to_outside_are_refused() {
    let bench = bench();
    fs::write(bench.path("secret"), b"secret").unwrap();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    fs::write(bench.path("input/real.png"), b"real").unwrap();
    symlink("real.png", bench.path("input/inside.png")).unwrap();
    symlink("../secret", bench.path("input/relative.png")).unwrap();
    symlink(bench.path("secret"), bench.path("input/absolute.png")).unwrap();
    symlink("../elsewhere", bench.path("input/folder")).unwrap();
    symlink("loop", bench.path("input/loop")).unwrap();
    let open = |name| bench.files.open_file(Folder::Input, "", name);
    assert_eq!(open("inside.png").unwrap().len, 4);
    for name in ["relative.png", "absolute.png", "folder/x", "loop"] {
        assert!(matches!(open(name), Err(BlobError::Outside { .. })), "{name}: {:?}", open(name));
    }
    let error = bench.files.save_upload(Folder::Input, "folder", "x", bench.staged(b"x"), true).unwrap_err();
    assert!(matches!(error, BlobError::Outside { .. }), "{error:?}");
    let name = OutputName::new("folder/x", 1, 1).unwrap();
    symlink("../elsewhere", bench.path("output/folder")).unwrap();
    assert!(bench.files.save_output(Folder::Output, &name, 0, "png", &bench.blob(b"x")).is_err());
    assert_eq!(files_below(&bench.path("elsewhere")), 0);
    // Overwriting a link replaces the link, not what it points to.
    bench.upload("absolute.png", b"new", true).unwrap();
    assert_eq!(fs::read(bench.path("secret")).unwrap(), b"secret");
    assert_eq!(bench.files.list(Folder::Input).unwrap().as_ref(), ["absolute.png", "inside.png", "real.png"]);
}

#[test]
fn a_named_pipe_is_refused_instead_of_waited_for() {
    let bench = bench();
    let made = std::process::Command::new("mkfifo").arg(bench.path("input/pipe")).status().unwrap();
    assert!(made.success());
    assert!(matches!(bench.files.open_file(Folder::Input, "", "pipe"), Err(BlobError::NotAFile { .. })));
    assert_eq!(bench.upload("pipe", b"x", false).unwrap(), "pipe (1)");
}

#[test]
fn threads_that_save_and_upload_the_same_name_never_share_one() {
    let bench = bench();
    let (threads, saves) = (8_u32, 50_u32);
    let names: Vec<(String, String, [u8; 8])> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let bench = &bench;
                scope.spawn(move || {
                    (0..saves)
                        .map(|save| {
                            let bytes = (u64::from(thread) << 32 | u64::from(save)).to_le_bytes();
                            (bench.save("race", &bytes), bench.upload("race.bin", &bytes, false).unwrap(), bytes)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let expected = (threads * saves) as usize;
    assert_eq!(names.iter().map(|(saved, _, _)| saved).collect::<HashSet<_>>().len(), expected);
    assert_eq!(names.iter().map(|(_, uploaded, _)| uploaded).collect::<HashSet<_>>().len(), expected);
    for (saved, uploaded, bytes) in names {
        assert_eq!(fs::read(bench.path("output").join(saved)).unwrap(), bytes);
        assert_eq!(fs::read(bench.path("input").join(uploaded)).unwrap(), bytes);
    }
    assert_eq!(files_below(&bench.path("output")), expected);
}

#[test]
fn two_servers_on_one_output_folder_never_share_a_name() {
    let bench = bench();
    let other_store = BlobStore::open(&bench.path("other-blobs")).unwrap();
    let tenant = TenantId::default_tenant();
    let other =
        TenantFiles::open(tenant.clone(), Arc::clone(&other_store), TenantDirs::below(bench.base.path(), &tenant))
            .unwrap();
    let name = OutputName::new("x", 1, 1).unwrap();
    let mut names = HashSet::new();
    for save in 0..40_u32 {
        names.insert(bench.save("x", &save.to_le_bytes()));
        let blob = other_store.put(&save.to_be_bytes(), Durability::Fast).unwrap();
        names.insert(other.save_output(Folder::Output, &name, 0, "png", &blob).unwrap().name);
    }
    assert_eq!(names.len(), 80);
}

#[test]
fn saving_into_a_full_folder_does_not_look_through_it_each_time() {
    let bench = bench();
    for number in 1..=10_000 {
        fs::write(bench.path(&format!("output/ComfyUI_{number:05}_.png")), b"").unwrap();
    }
    assert_eq!(bench.save("ComfyUI", b"x"), "ComfyUI_10001_.png");
    let blob = bench.blob(b"y");
    let name = OutputName::new("ComfyUI", 1, 1).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..500 {
        bench.files.save_output(Folder::Output, &name, 0, "png", &blob).unwrap();
    }
    let each = start.elapsed() / 500;
    assert!(each < Duration::from_millis(2), "{each:?} per save");
    println!("{each:?} per save beside 10 000 files");
}

#[test]
fn batch_numbers_never_replace_an_earlier_run() {
    let bench = bench();
    let name = OutputName::new("set/img%batch_num%", 4, 4).unwrap();
    let run = || {
        (0..2)
            .map(|batch| bench.files.save_output(Folder::Output, &name, batch, "png", &bench.blob(b"x")).unwrap().name)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), ["img0_00001_.png", "img1_00001_.png"]);
    assert_eq!(run(), ["img0_00002_.png", "img1_00002_.png"]);
    let next = bench.files.output_names(Folder::Output, &OutputName::new("set/img0", 4, 4).unwrap(), "png", 2).unwrap();
    assert_eq!(
        next.iter().map(|saved| saved.name.as_str()).collect::<Vec<_>>(),
        ["img0_00003_.png", "img0_00004_.png"]
    );
}

#[test]
fn digests_follow_the_file() {
    let bench = bench();
    bench.upload("a.png", b"one", false).unwrap();
    let name = AnnotatedName::parse("a.png [input]");
    assert_eq!(name.folder, Some(Folder::Input));
    assert_eq!(bench.files.digest_named(&name, Folder::Output).unwrap(), Digest::of(b"one"));
    bench.upload("a.png", b"two", true).unwrap();
    assert_eq!(bench.files.digest_named(&name, Folder::Output).unwrap(), Digest::of(b"two"));
    fs::write(bench.path("input/hand"), b"1").unwrap();
    assert_eq!(bench.files.digest(Folder::Input, "", "hand").unwrap(), Digest::of(b"1"));
    fs::write(bench.path("input/hand"), b"2").unwrap();
    assert_eq!(bench.files.digest(Folder::Input, "", "hand").unwrap(), Digest::of(b"2"), "same length, same tick");
}

#[test]
fn folders_in_names_are_split_off() {
    let cases = [
        ("a.png", "a.png", None),
        ("sub/a.png [output]", "sub/a.png", Some(Folder::Output)),
        ("a.png[temp]", "a.png", Some(Folder::Temp)),
        ("a [x]", "a [x]", None),
        ("[input]", "", Some(Folder::Input)),
    ];
    for (text, name, folder) in cases {
        assert_eq!(AnnotatedName::parse(text), AnnotatedName { name: name.to_owned(), folder }, "{text}");
    }
}

#[test]
fn lists_are_sorted_and_see_changes_at_once() {
    let bench = bench();
    for name in ["b.png", "a.PNG", "note.txt", ".vivarium-tmp-x"] {
        fs::write(bench.path("input").join(name), b"").unwrap();
    }
    fs::create_dir(bench.path("input/folder.png")).unwrap();
    assert_eq!(bench.files.list(Folder::Input).unwrap().as_ref(), ["a.PNG", "b.png", "note.txt"]);
    assert_eq!(bench.files.list_images(Folder::Input).unwrap(), ["a.PNG", "b.png"]);
    bench.upload("c.png", b"x", false).unwrap();
    assert_eq!(bench.files.list_images(Folder::Input).unwrap(), ["a.PNG", "b.png", "c.png"]);
    assert_eq!(bench.files.list_newest_first(Folder::Input).unwrap().len(), 4);
}

#[test]
fn a_temporary_file_is_numbered_like_any_other_and_leaves_nothing_in_the_store() {
    let bench = bench();
    let name = OutputName::new("look/ComfyUI_temp", 8, 8).unwrap();
    let save = |bytes: &[u8]| bench.files.save_temporary(&name, 0, "png", bytes).unwrap();
    assert_eq!(save(b"one").name, "ComfyUI_temp_00001_.png");
    fs::write(bench.path("temp/look/ComfyUI_temp_00002_.png"), b"by hand").unwrap();
    let third = save(b"three");
    assert_eq!(
        (third.name.as_str(), third.subfolder.as_str(), third.folder),
        ("ComfyUI_temp_00003_.png", "look", Folder::Temp)
    );
    assert_eq!(fs::read(bench.path("temp/look/ComfyUI_temp_00001_.png")).unwrap(), b"one");
    assert_eq!(fs::read(bench.path("temp/look/ComfyUI_temp_00002_.png")).unwrap(), b"by hand");
    assert_eq!(files_below(&bench.path("blobs")), 0);
    bench.files.clear_temp().unwrap();
    assert_eq!(files_below(&bench.path("temp")), 0);
}

#[test]
fn clearing_temp_follows_no_link() {
    let bench = bench();
    fs::write(bench.path("output/keep"), b"").unwrap();
    fs::create_dir_all(bench.path("temp/a/b")).unwrap();
    fs::write(bench.path("temp/a/b/c"), b"").unwrap();
    symlink(bench.path("output"), bench.path("temp/link")).unwrap();
    bench.files.clear_temp().unwrap();
    assert_eq!(fs::read_dir(bench.path("temp")).unwrap().count(), 0);
    assert!(bench.path("output/keep").exists());
}

#[test]
fn a_folder_deleted_while_running_comes_back() {
    let bench = bench();
    bench.save("x", b"1");
    fs::remove_dir_all(bench.path("output")).unwrap();
    assert_eq!(bench.save("x", b"1"), "x_00001_.png");
}

#[test]
fn collecting_removes_only_what_nobody_names() {
    let bench = bench();
    bench.upload("kept", b"kept", false).unwrap();
    let held = bench.blob(b"held");
    drop(bench.blob(b"unused"));
    assert_eq!(bench.store.collect(Duration::from_secs(60)).unwrap().blobs, 0, "too young");
    let collected = bench.store.collect(Duration::ZERO).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (1, 6));
    assert!(bench.store.open_blob(Digest::of(b"unused")).is_err());
    bench.files.save_blob(Folder::Output, "", "held", &held, false).unwrap();
    drop(held);
    fs::remove_file(bench.path("input/kept")).unwrap();
    assert_eq!(bench.store.collect(Duration::ZERO).unwrap().blobs, 1);
    assert_eq!(fs::read(bench.path("output/held")).unwrap(), b"held");
}

/// Counts down, also when its thread panics.
struct Ending<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Also without a collector: two uploads of the same new bytes at once once took each other's file away.
#[test]
fn collecting_takes_nothing_from_uploads_that_go_on() {
    let bench = bench();
    let uploading = std::sync::atomic::AtomicUsize::new(4);
    let collected = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut blobs = 0;
            while uploading.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                blobs += bench.store.collect(Duration::ZERO).unwrap().blobs;
            }
            blobs
        });
        let uploaders: Vec<_> = (0..4_u8)
            .map(|thread| {
                let (bench, ending) = (&bench, Ending(&uploading));
                scope.spawn(move || {
                    let _ending = ending;
                    for round in 0..100_u8 {
                        // Few contents, so that bytes are found that just lost their last name.
                        let bytes = [round % 3; 10_000];
                        let name = bench.upload(&format!("{thread}"), &bytes, true).unwrap();
                        let path = bench.path("input").join(name);
                        assert!(fs::read(&path).unwrap() == bytes);
                        fs::remove_file(path).unwrap();
                    }
                })
            })
            .collect();
        uploaders.into_iter().for_each(|uploader| uploader.join().unwrap());
        collector.join().unwrap()
    });
    assert!(collected > 0, "nothing was collected meanwhile, so nothing was tried");
}

#[test]
fn names_on_another_disk_are_copies_with_the_same_rules() {
    let other_disk = Path::new("/dev/shm");
    let bench = bench();
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    if device(other_disk).is_err() || device(other_disk).unwrap() == device(bench.base.path()).unwrap() {
        eprintln!("skipped: no second file system at {}", other_disk.display());
        return;
    }
    let base = tempfile::tempdir_in(other_disk).unwrap();
    let tenant = TenantId::default_tenant();
    let dirs = TenantDirs::below(base.path(), &tenant);
    let files = TenantFiles::open(tenant, Arc::clone(&bench.store), dirs).unwrap();
    let upload = |bytes: &[u8], overwrite| {
        files.save_upload(Folder::Input, "", "a.png", bench.staged(bytes), overwrite).unwrap().name
    };
    assert_eq!(upload(b"one", false), "a.png");
    assert_eq!(upload(b"one", false), "a.png");
    assert_eq!(upload(b"two", false), "a (1).png");
    assert_eq!(upload(b"three", true), "a.png");
    assert_eq!(fs::read(base.path().join("input/a.png")).unwrap(), b"three");
    let name = OutputName::new("x", 1, 1).unwrap();
    for expected in ["x_00001_.png", "x_00002_.png"] {
        assert_eq!(files.save_output(Folder::Output, &name, 0, "png", &bench.blob(b"x")).unwrap().name, expected);
    }
    assert_eq!(hidden_files(&base.path().join("input")), 0);
    assert_eq!(hidden_files(&base.path().join("output")), 0);
}

#[test]
fn user_data_is_written_whole_listed_and_moved() {
    let bench = bench();
    let user = bench.files.user_data();
    assert_eq!(user.write("workflows/b.json", b"{}", false).unwrap().path, "workflows/b.json");
    assert!(matches!(user.write("workflows/b.json", b"[]", false), Err(BlobError::Exists { .. })));
    user.write("workflows/sub/A.json", b"{}", true).unwrap();
    user.write("workflows/.index.json", b"{}", true).unwrap();
    let paths =
        |recursive| user.list("workflows", recursive).unwrap().into_iter().map(|file| file.path).collect::<Vec<_>>();
    assert_eq!(paths(false), ["b.json"]);
    assert_eq!(paths(true), ["b.json", "sub/A.json"]);
    let entries = serde_json::to_value(user.list_entries("").unwrap()).unwrap();
    assert_eq!(entries[0], serde_json::json!({"type": "directory", "name": "sub", "path": "workflows/sub"}).clone());
    assert!(matches!(user.rename("workflows/b.json", "workflows/sub/A.json", false), Err(BlobError::Exists { .. })));
    assert_eq!(user.rename("workflows/b.json", "x/c.json", false).unwrap().path, "x/c.json");
    assert!(matches!(user.rename("no", "where/c.json", true), Err(BlobError::NotFound { .. })));
    assert!(matches!(user.delete("workflows"), Err(BlobError::IsDirectory { .. })));
    user.delete("x/c.json").unwrap();
    assert!(matches!(user.delete("x/c.json"), Err(BlobError::NotFound { .. })));
    assert!(matches!(user.open_file("workflows/nope"), Err(BlobError::NotFound { .. })));
    assert!(matches!(user.list("nope", true), Err(BlobError::NotFound { .. })));
}

#[test]
fn settings_merged_by_many_threads_are_all_kept_and_a_broken_file_is_not_overwritten() {
    let bench = bench();
    let user = bench.files.user_data();
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                let change = serde_json::json!({ format!("Comfy.{number}"): number });
                user.merge_settings(change.as_object().unwrap().clone()).unwrap();
            });
        }
    });
    assert_eq!(user.settings().unwrap().len(), 16);
    let file = bench.path("user/default/comfy.settings.json");
    assert!(fs::read_to_string(&file).unwrap().starts_with("{\n    \"Comfy."));
    fs::write(&file, b"{broken").unwrap();
    let error = user.merge_settings(serde_json::Map::new()).unwrap_err().to_string();
    assert!(error.contains("comfy.settings.json"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"{broken");
}

#[test]
fn an_unusable_folder_is_named_with_the_cause() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("input"), b"a file").unwrap();
    let store = BlobStore::open(&base.path().join("blobs")).unwrap();
    let tenant = TenantId::default_tenant();
    let error =
        TenantFiles::open(tenant.clone(), store, TenantDirs::below(base.path(), &tenant)).unwrap_err().to_string();
    assert!(error.contains("/input") && error.contains("Not a directory"), "{error}");
    let error = BlobStore::open(&base.path().join("input/blobs")).unwrap_err().to_string();
    assert!(error.contains("/input/blobs") && error.contains("Not a directory"), "{error}");
}

fn nasty_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("out".to_owned()),
        Just("in".to_owned()),
        Just("C:".to_owned()),
        Just("..\\..".to_owned()),
        Just("%2e%2e".to_owned()),
        Just("．．".to_owned()),
        Just("\u{2024}\u{2024}".to_owned()),
        Just("x\0".to_owned()),
        Just("y".repeat(256)),
        "[a-z]{1,3}",
        any::<String>(),
    ];
    (any::<bool>(), prop::collection::vec(part, 0..5))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_name_writes_or_reads_outside_its_folder(subfolder in nasty_name(), name in nasty_name(), overwrite: bool) {
        let bench = bench();
        fs::write(bench.path("secret"), b"secret").unwrap();
        // `out` leads out, `in` leads to a folder inside.
        symlink("..", bench.path("input/out")).unwrap();
        fs::create_dir(bench.path("input/real")).unwrap();
        symlink("real", bench.path("input/in")).unwrap();
        let inside = files_below_without_links(&bench.path("input"));
        let saved = bench.files.save_upload(Folder::Input, &subfolder, &name, bench.staged(b"payload"), overwrite);
        let added = files_below_without_links(&bench.path("input")) - inside;
        match saved {
            Ok(saved) => {
                prop_assert_eq!(added, 1);
                let mut content = String::new();
                let mut opened = bench.files.open_file(Folder::Input, &saved.subfolder, &saved.name).unwrap();
                opened.file.read_to_string(&mut content).unwrap();
                prop_assert_eq!(content, "payload");
            }
            Err(error) => {
                prop_assert!(error.is_clients_fault(), "{error:?}");
                prop_assert_eq!(added, 0);
            }
        }
        prop_assert_eq!(fs::read(bench.path("secret")).unwrap(), b"secret");
        // Nothing new beside our folders.
        let top: HashSet<_> = fs::read_dir(bench.base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(top.len(), 6, "{:?}", top);
        if let Ok(mut opened) = bench.files.open_file(Folder::Input, &subfolder, &name) {
            let mut content = String::new();
            opened.file.read_to_string(&mut content).unwrap();
            prop_assert_ne!(content, "secret");
        }
    }
}

fn files_below_without_links(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_below_without_links(&entry.path()),
            kind => usize::from(kind.is_file()),
        })
        .sum()
}

/// An upload whose name is known from the beginning, in pieces.
fn upload_named(bench: &Bench, name: &str, pieces: &[&[u8]], overwrite: bool) -> String {
    let mut upload = bench.files.stage_upload(Folder::Input, "", name, None).unwrap();
    pieces.iter().for_each(|piece| upload.write(piece).unwrap());
    bench.files.save_upload(Folder::Input, "", name, upload, overwrite).unwrap().name
}

/// Uploads that are being written now.
fn staged_files(bench: &Bench) -> usize {
    let own = fs::read_dir(bench.path("blobs/staging")).unwrap().map(|entry| entry.unwrap().path());
    let folders = own.filter(|path| path.is_dir());
    folders.map(|folder| fs::read_dir(folder).unwrap().count() - 1).sum()
}

#[test]
fn the_same_upload_under_the_same_name_is_compared_and_not_written() {
    let bench = bench();
    assert_eq!(upload_named(&bench, "a.png", &[b"one ", b"two"], false), "a.png");
    let modified = fs::metadata(bench.path("input/a.png")).unwrap().modified().unwrap();
    for overwrite in [false, true] {
        let mut upload = bench.files.stage_upload(Folder::Input, "", "a.png", None).unwrap();
        for piece in [&b"on"[..], b"e t", b"wo"] {
            upload.write(piece).unwrap();
            assert_eq!(staged_files(&bench), 0, "something was written");
        }
        assert_eq!(upload.len(), 7);
        let saved = bench.files.save_upload(Folder::Input, "", "a.png", upload, overwrite).unwrap();
        assert_eq!(saved.name, "a.png");
    }
    assert_eq!(fs::metadata(bench.path("input/a.png")).unwrap().modified().unwrap(), modified);
}

#[test]
fn an_upload_that_begins_like_its_namesake_keeps_all_its_bytes() {
    let bench = bench();
    upload_named(&bench, "a.png", &[b"one two three"], false);
    let whole = |name: &str| String::from_utf8(fs::read(bench.path("input").join(name)).unwrap()).unwrap();
    for (pieces, text) in [
        (&[&b"one "[..], b"two ", b"3"][..], "one two 3"),
        (&[b"one "], "one "),
        (&[b"one two ", b"three", b" four"], "one two three four"),
        (&[b""], ""),
    ] {
        let name = upload_named(&bench, "a.png", pieces, false);
        assert_ne!(name, "a.png");
        assert_eq!(whole(&name), text);
    }
    assert_eq!(whole("a.png"), "one two three");
    assert_eq!(upload_named(&bench, "a.png", &[b"one ", b"2"], true), "a.png");
    assert_eq!(whole("a.png"), "one 2");
    assert_eq!(staged_files(&bench), 0);
}

#[test]
fn an_upload_that_was_compared_with_another_file_than_it_becomes_is_written() {
    let bench = bench();
    upload_named(&bench, "a.png", &[b"one two"], false);
    // The form said only at its end where the file is to go.
    let mut upload = bench.files.stage_upload(Folder::Input, "", "a.png", None).unwrap();
    upload.write(b"one two").unwrap();
    let saved = bench.files.save_upload(Folder::Input, "below", "a.png", upload, false).unwrap();
    assert_eq!((saved.name.as_str(), saved.subfolder.as_str()), ("a.png", "below"));
    assert_eq!(fs::read(bench.path("input/below/a.png")).unwrap(), b"one two");

    // Somebody gave the name other bytes meanwhile.
    let mut upload = bench.files.stage_upload(Folder::Input, "", "a.png", None).unwrap();
    upload.write(b"one two").unwrap();
    upload_named(&bench, "a.png", &[b"three"], true);
    let saved = bench.files.save_upload(Folder::Input, "", "a.png", upload, false).unwrap();
    assert_eq!(saved.name, "a (1).png");
    assert_eq!(fs::read(bench.path("input/a (1).png")).unwrap(), b"one two");
}

#[test]
fn the_limit_holds_for_what_is_compared_too() {
    let bench = bench();
    upload_named(&bench, "a.png", &[b"one two"], false);
    let mut upload = bench.files.stage_upload(Folder::Input, "", "a.png", Some(5)).unwrap();
    upload.write(b"one ").unwrap();
    assert!(matches!(upload.write(b"two"), Err(BlobError::TooLarge { limit: 5 })));
}

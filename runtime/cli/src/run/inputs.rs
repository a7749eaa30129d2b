//! Bringing the files that a workflow names into the run's input folder.

use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;
use vivarium_blobs::{AnnotatedName, Durability, Folder, RelativePath, TenantFiles};
use vivarium_protocol::tenant::TenantId;
use vivarium_worker::Parts;

use crate::{
    failure::{Exit, OrFail, Outcome},
    workflow::{InputFile, Workflow},
};

/// Copies the given files, and those that a text of the workflow names in one of the places, first place first. A text
/// that names no file is just a text; a node that misses its file says so itself.
///
/// # Errors
/// When a file can't be read or kept.
pub(super) fn bring(parts: &Parts, workflow: &Workflow, given: &[InputFile], places: &[PathBuf]) -> Outcome<()> {
    let files = (parts.files)(&TenantId::default_tenant()).or_fail(Exit::Machine, || "could not open the folders")?;
    let mut brought = HashSet::new();
    for InputFile { name, path } in given {
        copy(&files, name, path)?;
        brought.insert(name.clone());
    }
    for name in named(workflow) {
        let found = places.iter().map(|place| place.join(&name)).find(|path| path.is_file());
        if let Some(path) = found
            && brought.insert(name.clone())
        {
            copy(&files, &name, &path)?;
        }
    }
    Ok(())
}

/// Texts that could name a file of the input folder.
fn named(workflow: &Workflow) -> Vec<String> {
    let inputs = workflow.nodes.values().filter_map(|node| node["inputs"].as_object());
    let texts = inputs.flat_map(|inputs| inputs.values()).filter_map(Value::as_str);
    let names = texts.map(AnnotatedName::parse).filter(|name| name.folder.is_none_or(|folder| folder == Folder::Input));
    names.map(|name| name.name).filter(|name| RelativePath::parse_file(name).is_ok()).collect()
}

fn copy(files: &TenantFiles, name: &str, path: &Path) -> Outcome<()> {
    let doing = || format!("could not bring {} into the run", path.display());
    let mut source = File::open(path).or_fail(Exit::Machine, || format!("could not read {}", path.display()))?;
    let mut staged = files.store().stage(None).or_fail(Exit::Machine, doing)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut chunk).or_fail(Exit::Machine, doing)?;
        if length == 0 {
            break;
        }
        staged.write(&chunk[..length]).or_fail(Exit::Machine, doing)?;
    }
    let blob = staged.commit(Durability::Fast).or_fail(Exit::Machine, doing)?;
    let (subfolder, filename) = name.rsplit_once('/').unwrap_or(("", name));
    files.save_blob(Folder::Input, subfolder, filename, &blob, true).map(drop).or_fail(Exit::Machine, doing)
}

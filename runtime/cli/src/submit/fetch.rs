//! Fetching what a prompt made.

use std::{
    fs::{self, File},
    path::Path,
};

use super::api::Api;
use crate::{
    failure::{Exit, OrFail, Outcome},
    report::SavedFile,
    results::{ResultFile, safe_name, settle},
};

/// Fetches one file into a folder, under its own name if that is free.
pub(super) fn fetch(api: &Api, (node, file): (String, ResultFile), folder: &Path) -> Outcome<SavedFile> {
    let name = safe_name(&file.filename)?;
    fs::create_dir_all(folder).or_fail(Exit::Machine, || format!("could not create {}", folder.display()))?;
    let partial = folder.join(format!(".vivarium-{}.partial", std::process::id()));
    let result = download(api, &file, &partial).and_then(|()| settle(&partial, folder, name));
    if result.is_err() {
        fs::remove_file(&partial).ok();
    }
    let ResultFile { filename, subfolder, r#type } = file.clone();
    Ok(SavedFile { node, path: result?, filename, subfolder, r#type })
}

fn download(api: &Api, file: &ResultFile, partial: &Path) -> Outcome<()> {
    let mut bytes = api.view(file)?;
    let doing = || format!("could not write {}", partial.display());
    let mut target = File::create(partial).or_fail(Exit::Machine, doing)?;
    std::io::copy(&mut bytes, &mut target).map(drop).or_fail(Exit::Server, doing)
}

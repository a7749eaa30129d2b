//! The outside of a test: answers to HTTP requests, scratch files, input folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

use vivarium_outbound::{Request, Response, target::Target};
use vivarium_protocol::permission::Permission;
use vivarium_sandbox::{CallError, CallErrorKind, FolderEntry, ScratchEntry};
use vivarium_testkit::wire::{Blob, HttpAnswer};

use super::powers::{Powers, file_of, not_found};

impl Powers {
    pub(super) fn answer_http(&self, request: Request) -> Result<Response, CallError> {
        let invalid = |message: String| CallError::new(CallErrorKind::InvalidArgument, message);
        let target = Target::parse(&request.url).map_err(|error| invalid(error.to_string()))?;
        let covered = self.grants.iter().any(|grant| match grant {
            Permission::Http { host } => host.covers(&target.host, target.port, target.usual_port),
            _ => false,
        });
        if !covered {
            let message = format!("the test grants no http/{}", target.host);
            return Err(CallError::new(CallErrorKind::PermissionDenied, message));
        }
        let answer = self.http.get(&request.url);
        let missing = || not_found(format!("the test has no answer for {}; see `http`", request.url));
        let HttpAnswer { status, body: Blob(body) } = answer.cloned().ok_or_else(missing)?;
        let Request { method, url, headers, body: sent } = request;
        let response = Response { status, url: url.clone(), headers: Vec::new(), body };
        self.notebook().requests.push(vivarium_testkit::Request { method, url, headers, body: sent });
        Ok(response)
    }

    pub(super) fn list_scratch(&self) -> Vec<ScratchEntry> {
        let entry = |(name, data): (&String, &Vec<u8>)| ScratchEntry { name: name.clone(), bytes: data.len() as u64 };
        self.notebook().scratch.iter().map(entry).collect()
    }

    pub(super) fn scratch_file(&self, name: &str) -> Result<Vec<u8>, CallError> {
        let missing = || not_found(format!("there is no scratch file {name:?}"));
        self.notebook().scratch.get(name).cloned().ok_or_else(missing)
    }

    fn folder(&self, folder: &str) -> Result<&BTreeMap<String, Blob>, CallError> {
        let missing = || not_found(format!("the test gives the node no folder {folder:?}; see `folder_file`"));
        self.folders.get(folder).ok_or_else(missing)
    }

    pub(super) fn entries_of(&self, folder: &str, path: &str) -> Result<Vec<FolderEntry>, CallError> {
        let inside = if path.is_empty() { String::new() } else { format!("{}/", path.trim_end_matches('/')) };
        let mut folders = BTreeSet::new();
        let mut entries = Vec::new();
        for (path, Blob(data)) in self.folder(folder)? {
            let Some(rest) = path.strip_prefix(&inside) else { continue };
            match rest.split_once('/') {
                Some((name, _)) if folders.insert(name.to_owned()) => {
                    entries.push(FolderEntry { name: name.to_owned(), is_folder: true, bytes: 0 });
                }
                Some(_) => {}
                None => {
                    entries.push(FolderEntry { name: rest.to_owned(), is_folder: false, bytes: data.len() as u64 });
                }
            }
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    pub(super) fn open_file(&self, folder: &str, path: &str) -> Result<File, CallError> {
        let missing = || not_found(format!("there is no {path:?} in {folder}"));
        let Blob(bytes) = self.folder(folder)?.get(path).ok_or_else(missing)?;
        file_of(bytes)
    }
}

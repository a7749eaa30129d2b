//! `folders`: folders that the operator gave names to, for reading.

use std::os::unix::fs::FileExt;

use vivarium_protocol::permission::Permission;

use super::{HostState, state::to_guest};
use crate::bindings::vivarium::node::{
    folders::{self, Entry},
    types::{Error, ErrorKind},
};

impl folders::Host for HostState {
    fn list_files(&mut self, folder: String, path: String) -> wasmtime::Result<Result<Vec<Entry>, Error>> {
        Ok(self.list_folder(folder, &path))
    }

    fn read(
        &mut self,
        folder: String,
        path: String,
        offset: u64,
        length: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        Ok(self.read_in_folder(folder, &path, offset, length))
    }
}

impl HostState {
    fn list_folder(&mut self, folder: String, path: &str) -> Result<Vec<Entry>, Error> {
        self.require(&Permission::Input { name: folder.clone() })?;
        let limit = self.call.limits.listed_files;
        let entries = self.call.services.list_folder(&folder, path, limit).map_err(|error| to_guest(&error))?;
        self.charge_transfer(entries.iter().map(|entry| entry.name.len() as u64).sum())?;
        let entry =
            |entry: crate::FolderEntry| Entry { name: entry.name, is_folder: entry.is_folder, bytes: entry.bytes };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn read_in_folder(&mut self, folder: String, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        self.require(&Permission::Input { name: folder.clone() })?;
        let file = self.call.services.open_in_folder(&folder, path).map_err(|error| to_guest(&error))?;
        let failed = |error: std::io::Error| Error {
            kind: ErrorKind::Internal,
            message: format!("the file cannot be read: {error}"),
        };
        let there = file.metadata().map_err(failed)?.len().saturating_sub(offset);
        let length = length.min(there);
        self.charge_transfer(length)?;
        let mut data = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], offset + filled as u64).map_err(failed)? {
                // It became shorter meanwhile.
                0 => break,
                read => filled += read,
            }
        }
        data.truncate(filled);
        Ok(data)
    }
}

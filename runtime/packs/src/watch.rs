//! Looks at the packs again when something in their folders changes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::{Catalog, PackError, Snapshot};

/// How long it has to be quiet before the folders are read: compilers write a file in many steps.
const QUIET: Duration = Duration::from_millis(200);

/// Watches as long as it lives.
#[must_use = "dropping it ends the watching"]
pub struct Watch {
    _watcher: RecommendedWatcher,
}

/// What was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Names of the packs that came, went, or are another version.
    pub packs: Vec<String>,
}

impl Watch {
    /// Watches the store, and the folders too if `folders` is set. `told` hears what changed, after the change.
    ///
    /// # Errors
    /// [`PackError::Watch`] when the system can't watch.
    pub fn start(
        catalog: Arc<Catalog>,
        folders: bool,
        told: impl Fn(&Changed) + Send + 'static,
    ) -> Result<Self, PackError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: notify::Error| PackError::Watch { path, reason: error.to_string() }
        };
        let (sender, events) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Opening a file to read it is no change.
            if event.is_ok_and(|event| !event.kind.is_access() || event.kind.is_other()) {
                sender.send(()).ok();
            }
        });
        let mut watcher = watcher.map_err(failed(Path::new("")))?;
        let (all, store) = catalog.places();
        let store = store.map(|store| store.folder().to_owned());
        let watched = all.iter().filter(|_| folders).cloned().chain(store);
        for folder in watched.filter(|folder| folder.is_dir()) {
            watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(failed(&folder))?;
        }
        let thread = thread::Builder::new().name("packs".into());
        let spawned = thread.spawn(move || {
            while events.recv().is_ok() {
                while events.recv_timeout(QUIET).is_ok() {}
                look_again(&catalog, &told);
            }
        });
        spawned.map_err(|error| PackError::Watch { path: PathBuf::new(), reason: error.to_string() })?;
        Ok(Self { _watcher: watcher })
    }
}

fn look_again(catalog: &Catalog, told: &impl Fn(&Changed)) {
    let before = catalog.snapshot();
    match catalog.reload() {
        Ok(after) => {
            let packs = changed(&before, &after);
            if !packs.is_empty() {
                tracing::info!(packs = packs.join(", "), "packs were exchanged");
                told(&Changed { packs });
            }
        }
        Err(error) => tracing::error!(%error, "the packs could not be read again; they stay as they were"),
    }
}

fn changed(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let missing = |from: &Snapshot, other: &Snapshot| -> Vec<String> {
        let is_there = |name: &str, digest: &str| other.pack(name).is_some_and(|pack| pack.digest() == digest);
        from.usable()
            .filter(|(_, component)| !is_there(component.name(), component.digest()))
            .map(|(_, component)| component.name().to_owned())
            .collect()
    };
    let mut names = missing(before, after);
    names.extend(missing(after, before));
    names.sort();
    names.dedup();
    names
}

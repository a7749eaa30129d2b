//! What packs give front ends beside nodes: data, never scripts, which would run with the user's rights.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use vivarium_packs::{InstalledPack, Snapshot, manifest::Workflow};
use vivarium_protocol::replacement::Replacements;

/// What all packs together offer.
#[derive(Clone, Debug, Default)]
pub struct PackOffers {
    /// Example workflows by pack and name.
    pub workflows: BTreeMap<String, BTreeMap<String, Value>>,
    /// Subgraphs that every workflow may use, by pack and name.
    pub subgraphs: BTreeMap<String, BTreeMap<String, Value>>,
    /// Classes that take the place of others.
    pub replacements: Replacements,
    /// Translations by language, in the form of ComfyUI's `/i18n`.
    pub translations: Map<String, Value>,
}

/// The offers of the packs that are there, read when they are first asked for after a change.
#[derive(Debug, Default)]
pub(crate) struct CurrentOffers(Mutex<Option<(u64, Arc<PackOffers>)>>);

impl CurrentOffers {
    pub(crate) fn of(&self, snapshot: &Snapshot) -> Arc<PackOffers> {
        let mut known = self.0.lock();
        if let Some((generation, offers)) = &*known
            && *generation == snapshot.generation()
        {
            return offers.clone();
        }
        let offers = Arc::new(PackOffers::read(snapshot));
        *known = Some((snapshot.generation(), offers.clone()));
        offers
    }
}

impl PackOffers {
    /// A file that can't be read is left out, and the log says so: the nodes of its pack are not worse for it.
    fn read(snapshot: &Snapshot) -> Self {
        let mut offers = Self::default();
        for (pack, manifest) in snapshot.manifests() {
            let all = |files: &[Workflow]| -> BTreeMap<String, Value> {
                files.iter().filter_map(|one| Some((one.title.clone(), json(pack, &one.file)?))).collect()
            };
            offers.workflows.insert(manifest.name.clone(), all(&manifest.workflows));
            offers.subgraphs.insert(manifest.name.clone(), all(&manifest.subgraphs));
            for replacement in &manifest.replacements {
                offers.replacements.entry(replacement.old_node_id.clone()).or_default().push(replacement.clone());
            }
            for (language, file) in &manifest.translations {
                if let Some(translation) = json(pack, file) {
                    offers.translate(language, pack, &translation);
                }
            }
        }
        offers
    }

    /// Takes over what is about classes of the pack. A pack that could rename other nodes, or the buttons of a front end, could
    /// make a user do what he does not mean to.
    fn translate(&mut self, language: &str, pack: &InstalledPack, translation: &Value) {
        let Ok(component) = &pack.component else { return };
        for node in &component.definition().nodes {
            let Some(translated) = translation["nodeDefs"].get(&node.class_type) else { continue };
            let of_language = self.translations.entry(language).or_insert_with(|| Value::Object(Map::new()));
            of_language["nodeDefs"][&node.class_type] = translated.clone();
        }
    }
}

fn json(pack: &InstalledPack, file: &str) -> Option<Value> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(pack = pack.file_name(), file, %error, "a file of a pack cannot be offered to front ends");
    };
    match pack.asset(file) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| failed(&error)).ok(),
        Ok(None) => {
            failed(&"the pack does not hold it");
            None
        }
        Err(error) => {
            failed(&error);
            None
        }
    }
}

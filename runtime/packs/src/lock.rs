//! The packs that a workflow was made with, by digest. A workflow that carries a lock runs with exactly these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Snapshot;

/// More packs than this are no lock.
const PACKS: usize = 1000;

/// A lock, as it stands in a workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// By name.
    pub packs: BTreeMap<String, Locked>,
}

/// One pack of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// For people.
    pub version: String,
    /// SHA-256 of the pack's file, hexadecimal.
    pub sha256: String,
}

impl Lock {
    /// The packs that the classes of a prompt come from, or the ones that take their place. Classes that no pack has are left
    /// out.
    #[must_use]
    pub fn of(prompt: &Map<String, Value>, snapshot: &Snapshot) -> Self {
        let classes = prompt.values().filter_map(|node| node["class_type"].as_str());
        let component =
            |class: &str| snapshot.component(class).or_else(|| snapshot.component(snapshot.stand_in(class)?));
        let packs = classes.filter_map(component).map(|component| {
            let version = component.definition().version.clone();
            (component.name().to_owned(), Locked { version, sha256: component.digest().to_owned() })
        });
        Self { packs: packs.collect() }
    }

    /// The lock that came with a prompt: in its `extra_data`, or in the workflow that an editor sends along.
    ///
    /// # Errors
    /// There is something in its place that is no lock.
    pub fn in_extra_data(extra_data: &Map<String, Value>) -> Result<Option<Self>, String> {
        let own = extra_data.get("vivarium").and_then(|own| own.get("lock"));
        let editors = || {
            let workflow = extra_data.get("extra_pnginfo")?.get("workflow")?;
            workflow.get("extra")?.get("vivarium")?.get("lock")
        };
        let Some(lock) = own.or_else(editors).filter(|lock| !lock.is_null()) else { return Ok(None) };
        let lock = Self::deserialize(lock).map_err(|error| format!("the workflow's lock cannot be read: {error}"))?;
        if lock.packs.len() > PACKS {
            return Err(format!("the workflow's lock names {} packs, more than {PACKS}", lock.packs.len()));
        }
        Ok(Some(lock))
    }

    /// Checks the lock of a prompt, if it has one.
    ///
    /// # Errors
    /// As [`Lock::in_extra_data`] and [`Lock::check`].
    pub fn check_prompt(extra_data: &Map<String, Value>, snapshot: &Snapshot) -> Result<(), String> {
        Self::in_extra_data(extra_data)?.map_or(Ok(()), |lock| lock.check(snapshot))
    }

    /// As it is put below `extra_data`, or below an editor's `extra`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        json!({"lock": self})
    }

    /// Compares it with what is installed.
    ///
    /// # Errors
    /// A sentence that names every pack that is missing or other.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (name, locked) in &self.packs {
            let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
            match snapshot.pack(&name) {
                None => wrong.push(format!("{name} {} is not installed", short(&locked.version))),
                Some(component) if component.digest() != locked.sha256 => wrong.push(format!(
                    "{name} should be {} ({}), installed is {} ({})",
                    short(&locked.version),
                    short(&locked.sha256),
                    component.definition().version,
                    short(component.digest()),
                )),
                Some(_) => {}
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("the workflow is locked to other packs: {}", wrong.join("; ")))
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(12).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn extra(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_lock_is_found_where_clients_and_editors_keep_it() {
        let lock = json!({"lock": {"packs": {"x": {"version": "1.0.0", "sha256": "ab"}}}});
        for place in [json!({"vivarium": lock}), json!({"extra_pnginfo": {"workflow": {"extra": {"vivarium": lock}}}})]
        {
            let found = Lock::in_extra_data(&extra(place)).unwrap().unwrap();
            assert_eq!(found.packs["x"].sha256, "ab");
            let said = found.check(&Snapshot::default()).unwrap_err();
            assert!(said.contains("x 1.0.0 is not installed"), "{said}");
        }
        assert_eq!(Lock::in_extra_data(&extra(json!({"client_id": "a"}))).unwrap(), None);
    }

    #[test]
    fn a_lock_that_cannot_be_read_is_not_taken_for_none() {
        for lock in [json!("x"), json!({}), json!({"packs": {"x": 1}})] {
            assert!(Lock::in_extra_data(&extra(json!({"vivarium": {"lock": lock}}))).is_err());
        }
    }
}

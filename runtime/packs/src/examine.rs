//! What a component says of itself and what it imports, held against the manifest that people were shown.

use std::collections::HashSet;

use vivarium_protocol::permission::Permission;
use vivarium_sandbox::PackComponent;

use crate::{PackError, manifest::Manifest};

/// Interfaces that do nothing without a permission, and which permissions that are.
const GATED: [(&str, &str); 5] = [
    ("vivarium:node/weights", "models/FOLDER"),
    ("vivarium:node/secrets", "secret/NAME"),
    ("vivarium:node/http", "http/HOST"),
    ("vivarium:node/scratch", "scratch"),
    ("vivarium:node/folders", "input/NAME"),
];

/// Compares a manifest with its component.
///
/// # Errors
/// The first disagreement.
pub fn agree(manifest: &Manifest, component: &PackComponent) -> Result<(), PackError> {
    let definition = component.definition();
    let version = manifest.version.to_string();
    for (what, manifest, component) in
        [("name", &manifest.name, &definition.name), ("version", &version, &definition.version)]
    {
        if manifest != component {
            return Err(PackError::Disagrees { what, manifest: manifest.clone(), component: component.clone() });
        }
    }
    for request in &definition.permissions {
        let shown = request.permission.parse::<Permission>().is_ok_and(|permission| manifest.asks_for(&permission));
        if !shown {
            return Err(PackError::Hidden { permission: request.permission.clone() });
        }
    }
    for import in component.imports() {
        let interface = import.split('@').next().unwrap_or_default();
        let Some((gated, needs)) = GATED.into_iter().find(|(gated, _)| *gated == interface) else { continue };
        if !manifest.permissions.iter().any(|request| request.permission.interface() == Some(gated)) {
            return Err(PackError::Unasked { import: import.clone(), needs });
        }
    }
    let classes: HashSet<&str> = definition.nodes.iter().map(|node| node.class_type.as_str()).collect();
    let helped = manifest.help.keys().map(|class| ("a help text", class));
    let replacing = manifest.replacements.iter().map(|one| ("a replacement", &one.new_node_id));
    match helped.chain(replacing).find(|(_, class)| !classes.contains(class.as_str())) {
        Some((what, class)) => Err(PackError::NoClass { what, class: class.clone() }),
        None => Ok(()),
    }
}

//! Packs in OCI registries: as much of the distribution specification as one file needs.
//!
//! A pack is an artifact as WebAssembly's are: a manifest with one layer, `application/wasm`, which is the pack file. So the
//! layer's digest is the pack's. Everything is checked against the digest that named it.
//!
//! # Layout
//! - [`mod@reference`]: places in registries, `oci://…`
//! - [`registry`]: requests, and who may make them
//! - this file: pulling and pushing

mod reference;
mod registry;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::{
    reference::{Version, checked_digest},
    registry::Registry,
};
use crate::failure::{Exit, OrFail, Outcome, fail};

pub(super) use self::reference::{Reference, SCHEME};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";
/// The largest manifest that registries have to take.
const MANIFEST_BYTES: u64 = 4 << 20;

/// What is used of a manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// Fetches a pack file of at most `limit` bytes.
///
/// # Errors
/// It can't be had, is no pack's manifest, or isn't what its digest says.
pub(super) fn pull(reference: &Reference, limit: u64) -> Outcome<Vec<u8>> {
    let mut registry = Registry::of(reference, "pull")?;
    let path = format!("manifests/{}", reference.version.as_str());
    let accept = [&[MANIFEST_TYPE][..], &INDEX_TYPES].concat().join(", ");
    let manifest = registry.get(&path, &accept, MANIFEST_BYTES)?;
    if let Version::Digest(digest) = &reference.version {
        check(&manifest, digest, &format!("the manifest {reference}"))?;
    }
    let layer = layer(&manifest, reference)?;
    if layer.size > limit {
        fail!(
            Exit::Work,
            "{reference} has {} bytes, more than the limit of {limit} (component_bytes, limits.toml)",
            layer.size
        );
    }
    let pack = registry.get(&format!("blobs/{}", layer.digest), "*/*", layer.size)?;
    check(&pack, &layer.digest, &format!("the pack {reference}"))?;
    Ok(pack)
}

/// The one layer of a pack.
fn layer(manifest: &[u8], reference: &Reference) -> Outcome<Descriptor> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).or_fail(Exit::Work, || format!("{reference} is no image manifest"))?;
    if INDEX_TYPES.contains(&manifest.media_type.as_str()) {
        fail!(Exit::Work, "{reference} is an index of several manifests; name one of them with @sha256:…");
    }
    let wasm: Vec<&Descriptor> = manifest.layers.iter().filter(|layer| layer.media_type == LAYER_TYPE).collect();
    let ([layer], 1, 2) = (wasm.as_slice(), manifest.layers.len(), manifest.schema_version) else {
        fail!(
            Exit::Work,
            "{reference} is no pack: its manifest has {} layers, {} of them {LAYER_TYPE}; a pack has one, which is",
            manifest.layers.len(),
            wasm.len()
        );
    };
    if let Err(reason) = checked_digest(&layer.digest) {
        fail!(Exit::Work, "{reference} has a layer without a proper digest: {reason}");
    }
    Ok((*layer).clone())
}

/// Stores a pack file under a tag. Answers the digest of its manifest.
///
/// # Errors
/// The registry does not take it.
pub(super) fn push(reference: &Reference, pack: &[u8]) -> Outcome<String> {
    let Version::Tag(tag) = &reference.version else {
        fail!(Exit::Usage, "{reference} names a digest; what is pushed gets a tag");
    };
    let mut registry = Registry::of(reference, "pull,push")?;
    // Nothing but the type of what it configures; it has to be there.
    let config = br#"{"architecture":"wasm","os":"wasip2"}"#;
    let described = |media_type: &str, content: &[u8]| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest(content),
        size: content.len() as u64,
    };
    let (config_layer, pack_layer) = (described(CONFIG_TYPE, config), described(LAYER_TYPE, pack));
    registry.put_blob(&config_layer.digest, config)?;
    registry.put_blob(&pack_layer.digest, pack)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: Some(config_layer),
        layers: vec![pack_layer],
    };
    let manifest = serde_json::to_vec(&manifest).or_fail(Exit::Work, || "could not write the manifest")?;
    registry.put(&format!("manifests/{tag}"), MANIFEST_TYPE, &manifest)?;
    Ok(digest(&manifest))
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn check(content: &[u8], expected: &str, what: &str) -> Outcome<()> {
    let found = digest(content);
    if found != expected {
        fail!(Exit::Work, "{what} was changed: it should be {expected}, and the registry sent {found}");
    }
    Ok(())
}

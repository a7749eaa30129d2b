//! The pack file: a WebAssembly component that carries its manifest, its files and its signature as custom sections.
//!
//! There is no archive around it, so there are no paths to unpack, no links and no compression: every part is a range of the
//! file. `docs/packs.md` describes the format.

use std::{collections::BTreeMap, ops::Range};

use sha2::{Digest, Sha256};
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Chunk, Parser, Payload};

use crate::{
    PackError,
    manifest::{AssetKind, MANIFEST_BYTES, Manifest, check_path},
    signature::{PublicKey, SIGNATURE_BYTES, SigningKey},
};

/// One file in a pack has no more bytes than this.
pub const ASSET_BYTES: usize = 4 << 20;
/// All files of a pack together.
pub const ASSETS_BYTES: usize = 16 << 20;
/// What compilers leave about names and themselves, together.
pub const TOOL_SECTIONS_BYTES: usize = 1 << 20;

const MANIFEST: &str = "vivarium:manifest";
const SIGNATURE: &str = "vivarium:signature";
const FILE: &str = "vivarium:file/";
/// Custom sections that compilers write. Any other could hide anything.
const TOOL_SECTIONS: [&str; 4] = ["component-name", "name", "producers", "package-docs"];

/// A pack file, read: its parts are where they should be, and its signature is right if it has one. The component in it has
/// not been looked at.
#[derive(Clone, Debug)]
pub struct PackFile {
    bytes: Vec<u8>,
    digest: String,
    manifest: Option<Manifest>,
    assets: BTreeMap<String, Range<usize>>,
    signer: Option<PublicKey>,
}

struct Sections {
    manifest: Option<Range<usize>>,
    assets: BTreeMap<String, Range<usize>>,
    /// Where the section begins, and its payload.
    signature: Option<(usize, Range<usize>)>,
}

impl PackFile {
    /// Reads a pack file of at most `limit` bytes. A component without a manifest is a pack in the making: it has no files
    /// and no signature.
    ///
    /// # Errors
    /// Anything that is not as `docs/packs.md` says: [`PackError::Format`], [`PackError::Manifest`], [`PackError::Signature`].
    pub fn parse(bytes: Vec<u8>, limit: u64) -> Result<Self, PackError> {
        if bytes.len() as u64 > limit {
            return Err(format(format!(
                "it has {} bytes, more than the limit of {limit} (component_bytes, limits.toml)",
                bytes.len()
            )));
        }
        let sections = Sections::of(&bytes)?;
        let signer = sections.signature.clone().map(|(start, payload)| verify(&bytes, start, payload)).transpose()?;
        let manifest = match &sections.manifest {
            None if signer.is_some() || !sections.assets.is_empty() => {
                return Err(format("it has files or a signature, and no manifest".into()));
            }
            None => None,
            Some(range) => Some(parse_manifest(&bytes[range.clone()])?),
        };
        if let Some(manifest) = &manifest {
            check_assets(&bytes, manifest, &sections.assets)?;
        }
        let digest = hex::encode(Sha256::digest(&bytes));
        Ok(Self { bytes, digest, manifest, assets: sections.assets, signer })
    }

    /// Puts a pack file together. `component` may be a pack file itself: what it carries is replaced.
    ///
    /// # Errors
    /// As [`PackFile::parse`].
    pub fn assemble(
        component: &[u8],
        manifest: &str,
        assets: &[(String, Vec<u8>)],
        limit: u64,
    ) -> Result<Self, PackError> {
        let mut bytes = bare_component(component)?;
        append(&mut bytes, MANIFEST, manifest.as_bytes());
        for (path, content) in assets {
            append(&mut bytes, &format!("{FILE}{path}"), content);
        }
        Self::parse(bytes, limit)
    }

    /// The same pack, signed with a key instead of what it was signed with.
    ///
    /// # Errors
    /// It has no manifest, or becomes too large.
    pub fn signed(&self, key: &SigningKey, limit: u64) -> Result<Self, PackError> {
        let start = Sections::of(&self.bytes)?.signature.map_or(self.bytes.len(), |(start, _)| start);
        let mut bytes = self.bytes[..start].to_vec();
        let signature = key.sign(&Sha256::digest(&bytes).into());
        append(&mut bytes, SIGNATURE, &signature);
        Self::parse(bytes, limit)
    }

    /// SHA-256 of the file, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The whole file; also what the sandbox loads.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says about itself.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Who signed it. The signature has been verified.
    #[must_use]
    pub fn signer(&self) -> Option<&PublicKey> {
        self.signer.as_ref()
    }

    /// A file in it.
    #[must_use]
    pub fn asset(&self, path: &str) -> Option<&[u8]> {
        self.bytes.get(self.assets.get(path)?.clone())
    }
}

impl Sections {
    fn of(bytes: &[u8]) -> Result<Self, PackError> {
        let mut sections = Self { manifest: None, assets: BTreeMap::new(), signature: None };
        let (mut tools, mut assets) = (0, 0);
        for section in top_level(bytes)? {
            if sections.signature.is_some() {
                return Err(format("something follows the signature, which has to be last".into()));
            }
            let Some(name) = section.custom else { continue };
            let range = section.payload;
            let size = range.len();
            if let Some(path) = name.strip_prefix(FILE) {
                assets += size;
                if size > ASSET_BYTES || assets > ASSETS_BYTES {
                    return Err(format(format!(
                        "its files are too large: one may have {ASSET_BYTES} bytes, all together {ASSETS_BYTES}"
                    )));
                }
                if sections.assets.insert(path.to_owned(), range).is_some() {
                    return Err(format("it holds a file twice".into()));
                }
            } else if name == MANIFEST {
                if sections.manifest.replace(range).is_some() {
                    return Err(format("it has two manifests".into()));
                }
            } else if name == SIGNATURE {
                sections.signature = Some((section.start, range));
            } else {
                tools += size;
                check_tool_section(&name, tools)?;
            }
        }
        Ok(sections)
    }
}

fn check_tool_section(name: &str, total: usize) -> Result<(), PackError> {
    if !TOOL_SECTIONS.contains(&name) && !name.starts_with("component-type") {
        let name: String = name.chars().take(60).collect();
        return Err(format(format!(
            "it has a custom section {name:?}, which no pack needs; `vivarium pack build` removes it"
        )));
    }
    if total > TOOL_SECTIONS_BYTES {
        return Err(format(format!("its names and notes of compilers have more than {TOOL_SECTIONS_BYTES} bytes")));
    }
    Ok(())
}

/// One section of the component itself, not of what is inside of it.
struct Section {
    /// Where it begins, its header included.
    start: usize,
    end: usize,
    /// The name, if it is a custom section.
    custom: Option<String>,
    payload: Range<usize>,
}

fn top_level(bytes: &[u8]) -> Result<Vec<Section>, PackError> {
    let wrong = |error: wasmparser::BinaryReaderError| format(format!("it is not a WebAssembly component: {error}"));
    let mut parser = Parser::new(0);
    let mut sections = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let start = offset;
        let (consumed, payload) = match parser.parse(&bytes[offset..], true).map_err(wrong)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            Chunk::NeedMoreData(_) => return Err(format("it ends in the middle of a section".into())),
        };
        offset += consumed;
        let (custom, payload) = match payload {
            Payload::Version { encoding, .. } => {
                if encoding != wasmparser::Encoding::Component {
                    return Err(format(
                        "it is a core module, not a component; build it for the target wasm32-wasip2".into(),
                    ));
                }
                continue;
            }
            // What is inside belongs to the sandbox's validation, not here.
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                offset = unchecked_range.end;
                (None, unchecked_range)
            }
            Payload::CustomSection(section) => (Some(section.name().to_owned()), section.data_offset()..offset),
            Payload::End(_) => break,
            _ => (None, start..offset),
        };
        if offset > bytes.len() {
            return Err(format("it ends in the middle of a section".into()));
        }
        sections.push(Section { start, end: offset, custom, payload });
    }
    Ok(sections)
}

/// The component without any custom section but those of compilers.
fn bare_component(bytes: &[u8]) -> Result<Vec<u8>, PackError> {
    let sections = top_level(bytes)?;
    let header = sections.first().map_or(bytes.len(), |section| section.start);
    let mut bare = bytes[..header].to_vec();
    let kept = |name: &String| TOOL_SECTIONS.contains(&name.as_str()) || name.starts_with("component-type");
    for section in sections.iter().filter(|section| section.custom.as_ref().is_none_or(kept)) {
        bare.extend_from_slice(&bytes[section.start..section.end]);
    }
    Ok(bare)
}

fn append(bytes: &mut Vec<u8>, name: &str, payload: &[u8]) {
    CustomSection { name: name.into(), data: payload.into() }.append_to_component(bytes);
}

fn verify(bytes: &[u8], start: usize, payload: Range<usize>) -> Result<PublicKey, PackError> {
    let signature: &[u8; SIGNATURE_BYTES] = bytes[payload].try_into().map_err(|_| PackError::Signature {
        message: format!("its signature section should have {SIGNATURE_BYTES} bytes"),
    })?;
    PublicKey::that_signed(signature, &Sha256::digest(&bytes[..start]).into())
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest, PackError> {
    if bytes.len() > MANIFEST_BYTES {
        let message = format!("it has {} bytes, more than {MANIFEST_BYTES}", bytes.len());
        return Err(PackError::Manifest { message });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| PackError::Manifest { message: "it is not UTF-8".into() })?;
    Manifest::parse(text)
}

/// The files that the manifest names, no more and no fewer, each being what its name says.
fn check_assets(bytes: &[u8], manifest: &Manifest, assets: &BTreeMap<String, Range<usize>>) -> Result<(), PackError> {
    let named: BTreeMap<&str, AssetKind> = manifest.assets().collect();
    if let Some(hidden) = assets.keys().find(|path| !named.contains_key(path.as_str())) {
        let hidden: String = hidden.chars().take(100).collect();
        return Err(format(format!("it holds the file {hidden:?}, which its manifest does not name")));
    }
    for (path, kind) in named {
        check_path(path, kind).map_err(|message| PackError::Manifest { message })?;
        let Some(range) = assets.get(path) else {
            return Err(format(format!("its manifest names the file {path}, which is not there")));
        };
        check_content(path, kind, &bytes[range.clone()])?;
    }
    Ok(())
}

fn check_content(path: &str, kind: AssetKind, content: &[u8]) -> Result<(), PackError> {
    let right = match kind {
        AssetKind::Help => std::str::from_utf8(content).is_ok_and(|text| {
            !text.chars().any(|c| crate::manifest::is_deceptive(c) && !matches!(c, '\n' | '\r' | '\t'))
        }),
        AssetKind::Workflow => serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(content).is_ok(),
        AssetKind::Icon if path.ends_with(".png") => content.starts_with(b"\x89PNG\r\n\x1a\n"),
        AssetKind::Icon => content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WEBP"),
    };
    if right {
        return Ok(());
    }
    let should_be = match kind {
        AssetKind::Help => "text in UTF-8 without control characters",
        AssetKind::Workflow => "a JSON object",
        AssetKind::Icon => "a picture of the kind its name says",
    };
    Err(format(format!("the file {path} is not {should_be}")))
}

fn format(message: String) -> PackError {
    PackError::Format { message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The smallest component.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const PLAIN: &str = "name = \"x\"\nversion = \"1.0.0\"\npublisher = \"P\"\nlicense = \"MIT\"\n";
    const LIMIT: u64 = 64 << 20;

    fn with_help() -> (String, Vec<(String, Vec<u8>)>) {
        (format!("{PLAIN}[help]\nA = \"help/a.md\"\n"), vec![("help/a.md".to_owned(), b"# A\n".to_vec())])
    }

    fn pack() -> PackFile {
        let (manifest, files) = with_help();
        PackFile::assemble(EMPTY, &manifest, &files, LIMIT).unwrap()
    }

    fn refused(bytes: Vec<u8>) -> String {
        PackFile::parse(bytes, LIMIT).unwrap_err().to_string()
    }

    fn plus(bytes: &[u8], name: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        append(&mut bytes, name, payload);
        bytes
    }

    #[test]
    fn what_goes_in_comes_out_and_the_same_again_gives_the_same_digest() {
        let pack = pack();
        assert_eq!(pack.manifest().unwrap().name, "x");
        assert_eq!(pack.asset("help/a.md").unwrap(), b"# A\n");
        assert!(pack.signer().is_none() && pack.asset("help/b.md").is_none());
        let (manifest, files) = with_help();
        let again = PackFile::assemble(pack.bytes(), &manifest, &files, LIMIT).unwrap();
        assert_eq!(again.digest(), pack.digest());
        let bare = PackFile::parse(EMPTY.to_vec(), LIMIT).unwrap();
        assert!(bare.manifest().is_none());
    }

    #[test]
    fn one_flipped_bit_anywhere_ends_a_signature() {
        let key = SigningKey::generate();
        let signed = pack().signed(&key, LIMIT).unwrap();
        assert_eq!(signed.signer(), Some(&key.public()));
        assert_eq!(signed.signed(&key, LIMIT).unwrap().digest(), signed.digest());
        for position in EMPTY.len()..signed.bytes().len() {
            let mut bytes = signed.bytes().to_vec();
            bytes[position] ^= 1;
            let forged = PackFile::parse(bytes, LIMIT).is_ok_and(|file| file.signer() == Some(&key.public()));
            assert!(!forged, "byte {position}");
        }
    }

    #[test]
    fn nothing_can_be_hidden_in_a_pack() {
        let pack = pack();
        let signed = pack.signed(&SigningKey::generate(), LIMIT).unwrap();
        let cases = [
            (plus(pack.bytes(), "vivarium:file/help/b.md", b"x"), "does not name"),
            (plus(pack.bytes(), "vivarium:file/help/a.md", b"x"), "twice"),
            (plus(pack.bytes(), "vivarium:file/../a", b"x"), "does not name"),
            (plus(pack.bytes(), "vivarium:manifest", PLAIN.as_bytes()), "two manifests"),
            (plus(pack.bytes(), "payload", b"MZ"), "custom section"),
            (plus(pack.bytes(), "producers", &vec![0; TOOL_SECTIONS_BYTES + 1]), "more than"),
            (plus(signed.bytes(), "producers", b""), "follows the signature"),
            (plus(pack.bytes(), "vivarium:signature", b"short"), "97 bytes"),
            (plus(EMPTY, "vivarium:file/a.md", b"x"), "no manifest"),
            ([signed.bytes(), b"PK\x03\x04"].concat(), "not a"),
            (pack.bytes()[..pack.bytes().len() - 1].to_vec(), "unexpected end"),
            (b"\0asm\x01\0\0\0".to_vec(), "core module"),
            (b"\x7fELF".to_vec(), "not a"),
        ];
        for (bytes, said) in cases {
            let message = refused(bytes);
            assert!(message.contains(said), "{said}: {message}");
        }
        let missing = PackFile::assemble(EMPTY, &with_help().0, &[], LIMIT).unwrap_err().to_string();
        assert!(missing.contains("which is not there"), "{missing}");
    }

    #[test]
    fn a_file_is_what_its_name_says() {
        let with = |entry: &str, path: &str, content: &[u8]| {
            let files = [(path.to_owned(), content.to_vec())];
            PackFile::assemble(EMPTY, &format!("{PLAIN}{entry}"), &files, LIMIT)
        };
        let icon = "icon = \"i.png\"\n";
        assert!(with(icon, "i.png", b"\x89PNG\r\n\x1a\n...").is_ok());
        assert!(with(icon, "i.png", b"<svg onload=alert(1)>").is_err());
        let help = "[help]\nA = \"a.md\"\n";
        assert!(with(help, "a.md", "plain\n\ttext".as_bytes()).is_ok());
        assert!(with(help, "a.md", "\u{202e}txet".as_bytes()).is_err());
        assert!(with(help, "a.md", b"\x1b[2J").is_err());
        let workflow = "[[workflows]]\ntitle = \"t\"\nfile = \"w.json\"\n";
        assert!(with(workflow, "w.json", b"{}").is_ok());
        assert!(with(workflow, "w.json", b"[").is_err());
        let large = with(help, "a.md", &vec![b'a'; ASSET_BYTES + 1]).unwrap_err().to_string();
        assert!(large.contains("too large"), "{large}");
    }
}

//! Why a pack, a folder of packs or a grant cannot be used.

use std::path::PathBuf;

use vivarium_protocol::permission::Permission;

use crate::admission::Refusal;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder cannot be listed.
    #[error("cannot list the packs folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The list of installed packs is damaged.
    #[error("{} is not a readable list of packs ({reason}); restore it from a backup, or move it away to begin anew", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is not laid out as a pack.
    #[error("not a valid pack: {message}")]
    Format {
        /// What is wrong.
        message: String,
    },
    /// `pack.toml` is wrong.
    #[error("the manifest (pack.toml) is not valid: {message}")]
    Manifest {
        /// What is wrong.
        message: String,
    },
    /// The signature is wrong. A missing one is no error here.
    #[error("the signature is not valid: {message}")]
    Signature {
        /// What is wrong.
        message: String,
    },
    /// The manifest and the component say different things.
    #[error("the manifest says {what} {manifest:?}, the component {component:?}")]
    Disagrees {
        /// Name or version.
        what: &'static str,
        /// According to `pack.toml`.
        manifest: String,
        /// According to the component.
        component: String,
    },
    /// The component uses more than its manifest asks for.
    #[error(
        "the component imports {import}, and the manifest asks for none of the permissions that it needs ({needs})"
    )]
    Unasked {
        /// The interface.
        import: String,
        /// Which permissions would be right.
        needs: &'static str,
    },
    /// The component asks for more than its manifest shows.
    #[error("the component asks for {permission}, and the manifest does not")]
    Hidden {
        /// What it asks for.
        permission: String,
    },
    /// The manifest speaks of a class that the component does not have.
    #[error("the manifest has {what} for the class {class:?}, which the component does not have")]
    NoClass {
        /// A help text, or a replacement.
        what: &'static str,
        /// The class.
        class: String,
    },
    /// The file in the store is not the one that was installed.
    #[error("its file was changed after it was installed; `vivarium pack install` brings it back")]
    Tampered,
    /// It may not be installed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The component is refused.
    #[error(transparent)]
    Component(#[from] vivarium_sandbox::SandboxError),
    /// Another pack has this name already.
    #[error("a pack named {name:?} is already loaded from {first}; remove one of the two files")]
    DuplicatePack {
        /// The name.
        name: String,
        /// The file that has it.
        first: String,
    },
    /// Another pack provides one of its classes already.
    #[error("its class {class:?} is already provided by pack {owner:?}; one pack must not shadow another's nodes")]
    ShadowedClass {
        /// The class.
        class: String,
        /// The pack that has it.
        owner: String,
    },
    /// No pack of that name is installed.
    #[error("no pack {name:?} is installed; `vivarium pack list` lists them")]
    NotInstalled {
        /// The name.
        name: String,
    },
    /// A pack did not ask for what it would be granted.
    #[error(
        "pack {pack} does not ask for {permission}, so it is not granted; `vivarium pack info {pack}` shows what it asks for"
    )]
    NotAsked {
        /// The pack.
        pack: String,
        /// What was to be granted.
        permission: Permission,
    },
    /// The system does not tell about changes.
    #[error("cannot watch {}: {reason}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Not a grant.
    #[error("{text:?} is not a grant: {reason}")]
    InvalidGrant {
        /// What was given.
        text: String,
        /// What would be right.
        reason: String,
    },
}

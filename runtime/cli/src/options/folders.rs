//! Where everything is on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use vivarium_blobs::{ModelFolders, TenantDirs};
use vivarium_protocol::tenant::TenantId;

use crate::failure::{Exit, OrFail, Outcome, fail};

/// In the base folder: what only the server reads and writes.
const PRIVATE: &str = "vivarium-data";

/// Where a command finds things.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Folders")]
pub(crate) struct SourceOptions {
    /// Holds everything below unless said otherwise [default: ~/.local/share/vivarium]
    #[arg(long, value_name = "DIR", env = "VIVARIUM_BASE", global = true)]
    base_directory: Option<PathBuf>,

    /// What workflows load [default: <base>/input]
    #[arg(long, value_name = "DIR", global = true)]
    input_directory: Option<PathBuf>,

    /// Load node packs from here only; may be repeated [default: the stock packs and <base>/packs]
    #[arg(long, value_name = "DIR", global = true)]
    packs_directory: Vec<PathBuf>,

    /// A YAML file with more folders of models, in ComfyUI's format; may be repeated. <base>/extra_model_paths.yaml is read
    /// in any case
    #[arg(long, value_name = "FILE", global = true)]
    extra_model_paths_config: Vec<PathBuf>,
}

/// All folders of a server, as given.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Folders")]
pub(crate) struct FolderOptions {
    #[command(flatten)]
    source: SourceOptions,

    /// What workflows save [default: <base>/output]
    #[arg(long, value_name = "DIR")]
    output_directory: Option<PathBuf>,

    /// Previews go to `temp` inside it, which is emptied at start and exit [default: the base folder]
    #[arg(long, value_name = "DIR")]
    temp_directory: Option<PathBuf>,

    /// Settings and saved workflows of user interfaces [default: <base>/user]
    #[arg(long, value_name = "DIR")]
    user_directory: Option<PathBuf>,
}

/// The folders, decided. None of them is created yet.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Holds the others, unless the operator moved them.
    pub(crate) base: PathBuf,
    /// The default tenant's.
    pub(crate) tenant: TenantDirs,
    /// In this order.
    pub(crate) packs: Vec<PathBuf>,
    /// Files that name more folders of models, in this order.
    pub(crate) extra_model_paths: Vec<PathBuf>,
}

impl SourceOptions {
    /// Fills in the defaults.
    ///
    /// # Errors
    /// When there is no home folder to put the base folder in, or a folder of packs that was named isn't there.
    pub(crate) fn resolve(&self) -> Outcome<Folders> {
        let base = match &self.base_directory {
            Some(base) => base.clone(),
            None => default_base()?,
        };
        let own = TenantDirs::below(&base, &TenantId::default_tenant());
        let tenant = TenantDirs { input: self.input_directory.clone().unwrap_or(own.input), ..own };
        if let Some(missing) = self.packs_directory.iter().find(|folder| !folder.is_dir()) {
            fail!(Exit::Machine, "--packs-directory {} is not a folder", missing.display());
        }
        let packs = match self.packs_directory.as_slice() {
            [] => stock_packs().into_iter().chain([base.join("packs")]).collect(),
            given => given.to_vec(),
        };
        let extra_model_paths = self.extra_model_paths_config.clone();
        Ok(Folders { base, tenant, packs, extra_model_paths })
    }
}

impl FolderOptions {
    /// Fills in the defaults.
    ///
    /// # Errors
    /// As [`SourceOptions::resolve`].
    pub(crate) fn resolve(&self) -> Outcome<Folders> {
        let mut folders = self.source.resolve()?;
        let tenant = &mut folders.tenant;
        if let Some(output) = &self.output_directory {
            tenant.output.clone_from(output);
        }
        if let Some(temp) = &self.temp_directory {
            tenant.temp = temp.join("temp");
        }
        if let Some(user) = &self.user_directory {
            tenant.user = user.join("default");
            tenant.users.clone_from(user);
        }
        Ok(folders)
    }
}

impl Folders {
    /// The queue and the history.
    pub(crate) fn queue(&self) -> PathBuf {
        self.private().join("queue.sqlite")
    }

    /// The tenants and their tokens' hashes.
    pub(crate) fn tenants(&self) -> PathBuf {
        self.private().join("tenants.json")
    }

    /// Contents of files, under their digests.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.private().join("blobs")
    }

    /// Packs, compiled to native code.
    pub(crate) fn compiled(&self) -> PathBuf {
        Self::compiled_below(&self.base)
    }

    /// The same, where nothing but the base folder is known.
    pub(crate) fn compiled_below(base: &Path) -> PathBuf {
        base.join(PRIVATE).join("compiled")
    }

    /// Kernels that were compiled for GPUs.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.private().join("kernels")
    }

    /// Packs that were installed, and what is known about them.
    pub(crate) fn installed(&self) -> PathBuf {
        self.private().join("packs")
    }

    /// Secrets of tenants.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.private().join("secrets.json")
    }

    /// Limits of the server, of tenants and of packs.
    pub(crate) fn limits(&self) -> PathBuf {
        self.base.join("limits.toml")
    }

    /// What packs keep between prompts.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.private().join("scratch")
    }

    /// Model files, one folder per type.
    pub(crate) fn models(&self) -> PathBuf {
        self.base.join("models")
    }

    /// All folders of models.
    ///
    /// # Errors
    /// Names the file of extra paths that can't be used.
    pub(crate) fn model_folders(&self) -> Outcome<ModelFolders> {
        let folders = ModelFolders::with_files(&self.base, &self.extra_model_paths);
        folders.or_fail(Exit::Usage, || "could not read the extra model paths")
    }

    /// Creates the base folder and those that people put files into.
    ///
    /// # Errors
    /// Names the folder that can't be created.
    pub(crate) fn create(&self) -> Outcome<()> {
        let people_use = [self.base.join("packs"), self.models()];
        for folder in people_use.iter().chain([&self.private(), &self.installed()]) {
            fs::create_dir_all(folder)
                .or_fail(Exit::Machine, || format!("could not create the folder {}", folder.display()))?;
        }
        Ok(())
    }

    /// What only Vivarium touches.
    fn private(&self) -> PathBuf {
        self.base.join(PRIVATE)
    }
}

fn default_base() -> Outcome<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    match data {
        Some(data) => Ok(data.join("vivarium")),
        None => fail!(Exit::Usage, "there is no home folder to keep things in: name one with --base-directory"),
    }
}

/// `packs/` beside the executable.
fn stock_packs() -> Option<PathBuf> {
    let executable = env::current_exe().ok()?;
    executable.parent().map(Path::to_path_buf).map(|folder| folder.join("packs"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn based_at_b() -> SourceOptions {
        SourceOptions { base_directory: Some("/b".into()), ..SourceOptions::default() }
    }

    #[test]
    fn the_temp_and_user_flags_mean_what_they_mean_in_comfyui() {
        let options = FolderOptions {
            source: based_at_b(),
            temp_directory: Some("/t".into()),
            user_directory: Some("/u".into()),
            ..FolderOptions::default()
        };
        let folders = options.resolve().unwrap();
        assert_eq!(folders.tenant.temp, Path::new("/t/temp"));
        assert_eq!(folders.tenant.user, Path::new("/u/default"));
        assert_eq!(folders.tenant.input, Path::new("/b/input"));
        assert_eq!(folders.tenant.output, Path::new("/b/output"));
    }

    #[test]
    fn named_packs_folders_replace_the_default_ones_and_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let with = |packs: &Path| SourceOptions { packs_directory: vec![packs.to_path_buf()], ..based_at_b() };
        assert_eq!(with(folder.path()).resolve().unwrap().packs, [folder.path()]);
        let failure = with(Path::new("/no/such")).resolve().unwrap_err();
        assert!(failure.to_string().contains("/no/such"), "{failure}");
    }
}

//! What tensors are computed on.

use std::{fs, path::Path};

use clap::Args;
use vivarium_worker::{DeviceChoice, Devices};

use crate::failure::{Exit, OrFail, Outcome, fail};

/// What a server computes tensors on.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DevicesOptions {
    /// What tensors are computed on: `cpu`, `cuda` (the first GPU), `cuda:N`, several such as `cuda:0,cuda:1`, `cuda:all`, or
    /// `auto`, which is all GPUs if there are any. Each GPU takes prompts of its own
    #[arg(long, value_name = "DEVICE,…", default_value = "auto")]
    device: DeviceChoice,
}

/// What one prompt computes tensors on.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DeviceOptions {
    /// What tensors are computed on: `cpu`, `cuda` (the first GPU), `cuda:N`, or `auto`, which is the first GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = one_device)]
    device: DeviceChoice,
}

fn one_device(text: &str) -> Result<DeviceChoice, String> {
    match text.parse()? {
        DeviceChoice::All => Err("names all GPUs, and a prompt runs on one".to_owned()),
        DeviceChoice::Cuda(ordinals) if ordinals.len() > 1 => {
            Err("names several GPUs, and a prompt runs on one".to_owned())
        }
        choice => Ok(choice),
    }
}

impl DevicesOptions {
    /// Opens them.
    ///
    /// # Errors
    /// Why there is no such GPU.
    pub(crate) fn open(&self, kernels: &Path) -> Outcome<Devices> {
        open(&self.device, usize::MAX, kernels)
    }

    /// The CPU, which is all that worker processes have: they may open no device.
    ///
    /// # Errors
    /// When a GPU was asked for by name.
    pub(crate) fn without_gpu(&self) -> Outcome<Devices> {
        match self.device {
            DeviceChoice::Cuda(_) | DeviceChoice::All => {
                fail!(Exit::Usage, "worker processes may open no GPU: leave out --device, or --worker-processes")
            }
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Devices::default()),
        }
    }
}

impl DeviceOptions {
    /// Opens it.
    ///
    /// # Errors
    /// Why there is no such GPU.
    pub(crate) fn open(&self, kernels: &Path) -> Outcome<Devices> {
        open(&self.device, 1, kernels)
    }
}

/// The folder of compiled kernels is this user's alone: what lies there runs on the GPU.
fn open(choice: &DeviceChoice, most: usize, kernels: &Path) -> Outcome<Devices> {
    let devices = Devices::open(choice, most, kernels);
    let devices = devices.or_fail(Exit::Machine, || "could not use the GPU (--device cpu does without)")?;
    if devices.gpus() > 0 {
        private_folder(kernels).or_fail(Exit::Machine, || format!("could not make {}", kernels.display()))?;
    }
    Ok(devices)
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_one_device() {
        assert_eq!(one_device("cuda:3"), Ok(DeviceChoice::Cuda(vec![3])));
        assert_eq!(one_device("auto"), Ok(DeviceChoice::Auto));
        assert!(one_device("cuda:0,cuda:1").is_err() && one_device("cuda:all").is_err());
    }
}

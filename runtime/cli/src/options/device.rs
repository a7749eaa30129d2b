//! What tensors are computed on.

use std::{fs, path::Path};

use clap::Args;
use vivarium_worker::{Device, DeviceChoice};

use crate::failure::{Exit, OrFail, Outcome, fail};

/// What tensors are computed on.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct DeviceOptions {
    /// What tensors are computed on: `cpu`, `cuda` (the first GPU), `cuda:N`, or `auto`, which is the first GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

impl DeviceOptions {
    /// Opens it. The folder of compiled kernels is this user's alone: what lies there runs on the GPU.
    ///
    /// # Errors
    /// Why there is no such GPU.
    pub(crate) fn open(self, kernels: &Path) -> Outcome<Device> {
        let device = Device::open(self.device, kernels);
        let device = device.or_fail(Exit::Machine, || "could not use the GPU (--device cpu does without)")?;
        if device.has_gpu() {
            private_folder(kernels).or_fail(Exit::Machine, || format!("could not make {}", kernels.display()))?;
        }
        Ok(device)
    }

    /// The CPU, which is all that worker processes have: they may open no device.
    ///
    /// # Errors
    /// When a GPU was asked for by name.
    pub(crate) fn without_gpu(self) -> Outcome<Device> {
        match self.device {
            DeviceChoice::Cuda(_) => {
                fail!(Exit::Usage, "worker processes may open no GPU: leave out --device, or --worker-processes")
            }
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::default()),
        }
    }
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

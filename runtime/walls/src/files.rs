//! Landlock: no path leads to a file but those that were named, no TCP connection is made or taken, no signal and no abstract
//! socket leads out.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::WallsError;

/// What every kernel with landlock can refuse. Without this much there is no wall.
const NEEDED: ABI = ABI::V1;
/// What this crate knows to refuse; older kernels do without what is newer than they are, and seccomp refuses most of it too.
const WANTED: ABI = ABI::V6;

/// Confines the calling thread and those that it will start.
pub(crate) fn confine(readable: &[PathBuf]) -> Result<u32, WallsError> {
    let failed = |error: RulesetError| WallsError::Landlock { message: error.to_string() };
    let there: Vec<&PathBuf> = readable.iter().filter(|path| path.exists()).collect();
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .and_then(|rules| {
            rules
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(WANTED))?
                .handle_access(AccessNet::from_all(WANTED))?
                .scope(Scope::from_all(WANTED))?
                .create()?
                .add_rules(path_beneath_rules(there, AccessFs::ReadFile | AccessFs::ReadDir))?
                .restrict_self()
        });
    let status = match restricted {
        Ok(status) => status,
        Err(error) => return Err(lacking().unwrap_or_else(|| failed(error))),
    };
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err(WallsError::NoLandlock),
        (_, LandlockStatus::NotImplemented) => Err(WallsError::NoLandlock),
        (_, LandlockStatus::NotEnabled) => Err(WallsError::LandlockOff),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            let version = kernel_abi.unwrap_or(effective_abi as i32);
            Ok(u32::try_from(version).unwrap_or_default())
        }
    }
}

/// Why a requirement was not met: asks again for what may be left out, and looks what was.
fn lacking() -> Option<WallsError> {
    let rules = Ruleset::default().handle_access(AccessFs::from_all(NEEDED)).ok()?;
    match rules.create().ok()?.restrict_self().ok()?.landlock {
        LandlockStatus::NotEnabled => Some(WallsError::LandlockOff),
        LandlockStatus::NotImplemented => Some(WallsError::NoLandlock),
        _ => None,
    }
}

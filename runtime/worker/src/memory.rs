//! How much memory the machine has left, as far as this process may use it: a container's limit counts too.

use std::{fs, path::Path};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes in all and bytes left; absent where the system does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// What there is.
    pub total: u64,
    /// What new allocations may take without swapping.
    pub available: u64,
}

impl MachineMemory {
    /// Looks now.
    #[must_use]
    pub fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let machine = Self { total: meminfo(&text, "MemTotal:")?, available: meminfo(&text, "MemAvailable:")? };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // Version 2 has one line: `0::/path`. Every group above has limits of its own.
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let groups = Path::new(path).ancestors().map(|group| Path::new(CGROUPS).join(group));
        Some(groups.filter_map(|group| Self::of_group(&group)).fold(machine, Self::least))
    }

    fn of_group(group: &Path) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        Self::from_group(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
    }

    /// None when the group has no limit. Files that were read count as used until somebody needs their place.
    fn from_group(max: &str, current: &str, stat: &str) -> Option<Self> {
        let total = max.trim().parse().ok()?;
        let used: u64 = current.trim().parse().ok()?;
        let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
        Some(Self { total, available: total.saturating_sub(used.saturating_sub(files.unwrap_or_default())) })
    }

    fn least(self, other: Self) -> Self {
        Self { total: self.total.min(other.total), available: self.available.min(other.available) }
    }
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_machine_says_what_it_has_left() {
        let text = "MemTotal:       2048 kB\nMemFree:         512 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(meminfo(text, "MemAvailable:"), Some(1024 * 1024));
        assert_eq!(meminfo(text, "Mem:"), None);
    }

    #[test]
    fn a_container_has_its_limit_less_what_it_uses_other_than_for_files() {
        let group = MachineMemory::from_group("1000\n", "700\n", "anon 300\ninactive_file 400\n").unwrap();
        assert_eq!(group, MachineMemory { total: 1000, available: 700 });
        assert_eq!(MachineMemory::from_group("max\n", "700\n", ""), None);
        let machine = MachineMemory { total: 5000, available: 600 };
        assert_eq!(machine.least(group), MachineMemory { total: 1000, available: 600 });
    }
}

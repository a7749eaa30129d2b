//! How many prompts wait, run and have ended, in memory. They change under the lock of the queue's state; who only asks, as
//! clients do all the time, waits for no transaction.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use vivarium_protocol::tenant::TenantId;

/// Counts of one tenant.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) waiting: usize,
    pub(super) leased: usize,
    pub(super) ended: usize,
}

impl Counts {
    /// What waits or runs.
    pub(super) fn remaining(self) -> usize {
        self.waiting + self.leased
    }
}

/// Counts of all tenants. Clones share them.
#[derive(Clone, Default)]
pub(super) struct AllCounts(Arc<Mutex<HashMap<TenantId, Counts>>>);

impl AllCounts {
    pub(super) fn of(&self, tenant: &TenantId) -> Counts {
        self.0.lock().get(tenant).copied().unwrap_or_default()
    }

    /// What they are now.
    pub(super) fn change(&self, tenant: &TenantId, change: impl FnOnce(&mut Counts)) -> Counts {
        let mut all = self.0.lock();
        let counts = all.entry(tenant.clone()).or_default();
        change(counts);
        *counts
    }

    /// Whether nothing waits or runs.
    pub(super) fn all_is_done(&self) -> bool {
        self.0.lock().values().all(|counts| counts.remaining() == 0)
    }
}

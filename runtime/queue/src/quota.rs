//! What one tenant may take of the queue, beside the share that its turns give it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use vivarium_protocol::tenant::TenantId;

/// Seconds are counted over this time, minute by minute.
const WINDOW_MINUTES: i64 = 60;

/// Limits of one tenant. `Default` is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TenantQuota {
    /// Prompts that may wait; one more is refused.
    pub max_pending: usize,
    /// Prompts that may run at the same time; more of them wait.
    pub max_leased: usize,
    /// Seconds of workers in any hour. Beyond that nothing more is accepted or begun; what runs goes on.
    pub seconds_per_hour: f64,
    /// The same of GPUs.
    pub gpu_seconds_per_hour: f64,
}

impl Default for TenantQuota {
    fn default() -> Self {
        Self {
            max_pending: usize::MAX,
            max_leased: usize::MAX,
            seconds_per_hour: f64::INFINITY,
            gpu_seconds_per_hour: f64::INFINITY,
        }
    }
}

/// Tells the limits of a tenant at any time. Called under the queue's lock: it must be quick and must not use the queue.
pub type QuotasOf = Arc<dyn Fn(&TenantId) -> TenantQuota + Send + Sync>;

/// Seconds that tenants used in the last hour.
#[derive(Debug, Default)]
pub(crate) struct Spent(HashMap<TenantId, VecDeque<(i64, f64)>>);

impl Spent {
    /// Adds seconds to a minute (since 1970). Minutes come in order.
    pub(crate) fn add(&mut self, tenant: &TenantId, minute: i64, seconds: f64) {
        let minutes = self.0.entry(tenant.clone()).or_default();
        while minutes.front().is_some_and(|(then, _)| *then <= minute - WINDOW_MINUTES) {
            minutes.pop_front();
        }
        match minutes.back_mut() {
            Some((last, sum)) if *last >= minute => *sum += seconds,
            _ => minutes.push_back((minute, seconds)),
        }
    }

    /// Seconds of the hour that ends with a minute.
    pub(crate) fn used(&self, tenant: &TenantId, minute: i64) -> f64 {
        let recent = |(then, _): &&(i64, f64)| *then > minute - WINDOW_MINUTES;
        self.0.get(tenant).map_or(0.0, |minutes| minutes.iter().filter(recent).map(|(_, seconds)| seconds).sum())
    }

    /// Minutes until less than `limit` is used; at least 1, at most an hour.
    pub(crate) fn minutes_until_below(&self, tenant: &TenantId, minute: i64, limit: f64) -> u32 {
        let below = |wait: &u32| self.used(tenant, minute + i64::from(*wait)) < limit;
        (1..WINDOW_MINUTES as u32).find(below).unwrap_or(WINDOW_MINUTES as u32)
    }
}

/// The first minute that still counts.
pub(crate) fn oldest(minute: i64) -> i64 {
    minute - WINDOW_MINUTES + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn seconds_are_forgotten_after_an_hour() {
        let tenant: TenantId = "a".parse().unwrap();
        let mut spent = Spent::default();
        spent.add(&tenant, 100, 30.0);
        spent.add(&tenant, 100, 5.0);
        spent.add(&tenant, 130, 10.0);
        assert_eq!(spent.used(&tenant, 159), 45.0);
        assert_eq!(spent.used(&tenant, 160), 10.0);
        assert_eq!(spent.minutes_until_below(&tenant, 150, 40.0), 10);
        assert_eq!(spent.minutes_until_below(&tenant, 150, 0.0), 60);
        spent.add(&tenant, 200, 1.0);
        assert_eq!(spent.0[&tenant].len(), 1);
    }
}

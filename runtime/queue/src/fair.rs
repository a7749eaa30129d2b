//! Whose turn it is: deficit round-robin on measured seconds.
//!
//! Tenants share time, not prompts: whoever sends long prompts gets fewer of them. A prompt's cost is known only afterwards,
//! so a tenant pays in arrears: it may start a prompt while its balance is positive, is charged an estimate at once (so that
//! several workers do not all serve it on the same credit) and the true cost at the end. When nobody has credit left, all
//! who wait get the same allowance, as many times as it takes for somebody to have credit again.
//!
//! Two consequences that matter. A tenant alone on the machine never waits and gathers no debt beyond its last prompt, so a
//! night of work alone costs nothing in the morning. And an idle tenant saves nothing up: credit is lost when the last prompt
//! is taken, debt is paid off while others are served.
//!
//! Tenants in credit take turns prompt by prompt, which keeps the wait for short prompts short.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Seconds that one round gives to a tenant of weight 1.
pub const ROUND_SECONDS: f64 = 0.25;
/// A measured time beyond this is taken for a broken clock.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;
/// How fast the estimate follows the measured times.
const ESTIMATE_FOLLOWS: f64 = 0.3;

#[derive(Debug)]
struct Account {
    weight: f64,
    /// Seconds it may still use; negative is debt.
    balance: f64,
    /// What a prompt of this tenant usually costs, in seconds.
    estimate: f64,
    waiting: bool,
    running: u32,
    /// Rounds given when it last had something waiting.
    left_at: f64,
}

/// Balances and turns of tenants. `K` names a tenant.
#[derive(Debug)]
pub struct FairScheduler<K> {
    accounts: HashMap<K, Account>,
    /// Those with something waiting, in the order of their turns.
    turns: VecDeque<K>,
    weights: HashMap<K, f64>,
    rounds: f64,
}

impl<K> Default for FairScheduler<K> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), turns: VecDeque::new(), weights: HashMap::new(), rounds: 0.0 }
    }
}

impl<K: Clone + Eq + Hash> FairScheduler<K> {
    /// Gives a tenant a share other than 1. Weights that are not positive numbers count as 1.
    pub fn set_weight(&mut self, tenant: &K, weight: f64) {
        let weight = if weight.is_finite() && weight > 0.0 { weight } else { 1.0 };
        self.weights.insert(tenant.clone(), weight);
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.weight = weight;
        }
    }

    /// Says that a tenant has something waiting.
    pub fn has_work(&mut self, tenant: &K) {
        let (rounds, weight) = (self.rounds, self.weights.get(tenant).copied().unwrap_or(1.0));
        let account = self.accounts.entry(tenant.clone()).or_insert_with(|| Account {
            weight,
            balance: 0.0,
            estimate: ROUND_SECONDS,
            waiting: false,
            running: 0,
            left_at: rounds,
        });
        if !account.waiting {
            account.waiting = true;
            let paid_off = (rounds - account.left_at) * ROUND_SECONDS * account.weight;
            account.balance = (account.balance + paid_off).min(0.0);
            self.turns.push_back(tenant.clone());
        }
    }

    /// Says that a tenant has nothing waiting any more.
    pub fn has_no_work(&mut self, tenant: &K) {
        self.turns.retain(|waiting| waiting != tenant);
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.waiting = false;
            account.balance = account.balance.min(0.0);
            account.left_at = self.rounds;
        }
        self.forget_if_even(tenant);
    }

    /// Whose prompt to start now; `None` when nobody waits. That tenant's next turn comes after everybody else's.
    pub fn pick(&mut self) -> Option<K> {
        self.pick_among(&|_| true)
    }

    /// As [`FairScheduler::pick`], passing over those who may not start anything now. They keep their turns, and their debts
    /// are paid off while others are served.
    pub fn pick_among(&mut self, may_start: &dyn Fn(&K) -> bool) -> Option<K> {
        let first = self.turns.iter().position(may_start)?;
        let position = self.first_in_credit(may_start).or_else(|| {
            self.give_rounds(may_start);
            self.first_in_credit(may_start)
        });
        let tenant = self.turns.remove(position.unwrap_or(first))?;
        self.turns.push_back(tenant.clone());
        Some(tenant)
    }

    /// Charges for a prompt that begins. The answer is the estimate to hand to [`FairScheduler::finished`].
    pub fn started(&mut self, tenant: &K) -> f64 {
        let Some(account) = self.accounts.get_mut(tenant) else { return 0.0 };
        account.balance -= account.estimate;
        account.running += 1;
        account.estimate
    }

    /// Charges what a prompt truly cost.
    pub fn finished(&mut self, tenant: &K, estimate: f64, seconds: f64) {
        let Some(account) = self.accounts.get_mut(tenant) else { return };
        let seconds = if seconds.is_finite() { seconds.clamp(0.0, MAX_SECONDS) } else { 0.0 };
        account.balance += estimate - seconds;
        account.estimate += ESTIMATE_FOLLOWS * (seconds - account.estimate);
        account.running = account.running.saturating_sub(1);
        self.forget_if_even(tenant);
    }

    /// Takes a charge back, for a prompt that was not run.
    pub fn not_run(&mut self, tenant: &K, estimate: f64) {
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.balance += estimate;
            account.running = account.running.saturating_sub(1);
        }
        self.forget_if_even(tenant);
    }

    fn first_in_credit(&self, may_start: &dyn Fn(&K) -> bool) -> Option<usize> {
        let in_credit = |tenant: &K| self.accounts.get(tenant).is_some_and(|account| account.balance > 0.0);
        self.turns.iter().position(|tenant| in_credit(tenant) && may_start(tenant))
    }

    /// As many rounds as the first tenant needs to have credit, all at once: a debt of hours costs one step.
    fn give_rounds(&mut self, may_start: &dyn Fn(&K) -> bool) {
        let rounds_needed = |account: &Account| (-account.balance / (ROUND_SECONDS * account.weight)).floor() + 1.0;
        let may_start = self.turns.iter().filter(|tenant| may_start(tenant));
        let waiting = may_start.filter_map(|tenant| self.accounts.get(tenant));
        let rounds = waiting.map(rounds_needed).fold(f64::INFINITY, f64::min);
        if !rounds.is_finite() {
            return;
        }
        self.rounds += rounds;
        for tenant in &self.turns {
            if let Some(account) = self.accounts.get_mut(tenant) {
                let allowance = ROUND_SECONDS * account.weight;
                // No more than one allowance is saved up.
                account.balance = (account.balance + rounds * allowance).min(allowance);
            }
        }
    }

    /// A tenant that waits for nothing and owes nothing needs no account.
    fn forget_if_even(&mut self, tenant: &K) {
        let rounds = self.rounds;
        let even = |account: &Account| {
            let paid_off = (rounds - account.left_at) * ROUND_SECONDS * account.weight;
            !account.waiting && account.running == 0 && account.balance + paid_off >= 0.0
        };
        if self.accounts.get(tenant).is_some_and(even) {
            self.accounts.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Serves `turns` prompts on one worker; tenant `i` always has work of `costs[i]` seconds. Seconds used per tenant.
    fn serve(scheduler: &mut FairScheduler<usize>, costs: &[f64], turns: usize) -> Vec<f64> {
        let mut used = vec![0.0; costs.len()];
        (0..costs.len()).for_each(|tenant| scheduler.has_work(&tenant));
        for _ in 0..turns {
            let tenant = scheduler.pick().unwrap();
            let estimate = scheduler.started(&tenant);
            scheduler.finished(&tenant, estimate, costs[tenant]);
            used[tenant] += costs[tenant];
        }
        used
    }

    #[test]
    fn long_prompts_do_not_buy_more_time() {
        let used = serve(&mut FairScheduler::default(), &[10.0, 0.1, 1.0], 5000);
        let (least, most) = (used.iter().copied().fold(f64::MAX, f64::min), used.iter().copied().fold(0.0, f64::max));
        assert!(most - least <= 10.0 + 2.0 * ROUND_SECONDS, "{used:?}");
    }

    #[test]
    fn a_weight_of_three_gets_three_times_the_time() {
        let mut scheduler = FairScheduler::default();
        scheduler.set_weight(&0, 3.0);
        let used = serve(&mut scheduler, &[0.5, 0.5], 4000);
        assert!((used[0] / used[1] - 3.0).abs() < 0.05, "{used:?}");
    }

    #[test]
    fn a_newcomer_is_served_at_once_after_a_night_of_somebody_elses_work() {
        let mut scheduler = FairScheduler::default();
        serve(&mut scheduler, &[30.0], 1000);
        scheduler.has_work(&1);
        assert_eq!(scheduler.pick(), Some(1));
        // And the night is not held against the other for longer than its last prompt.
        let mut newcomers = 0.0;
        loop {
            let tenant = scheduler.pick().unwrap();
            if tenant == 0 {
                break;
            }
            let estimate = scheduler.started(&tenant);
            scheduler.finished(&tenant, estimate, 0.1);
            newcomers += 0.1;
        }
        assert!(newcomers < 31.0, "{newcomers}");
    }

    #[test]
    fn being_idle_saves_nothing_up() {
        let mut scheduler = FairScheduler::default();
        scheduler.has_work(&1);
        scheduler.has_no_work(&1);
        serve(&mut scheduler, &[0.1], 1000);
        scheduler.has_work(&1);
        let in_a_row = std::iter::from_fn(|| {
            let tenant = scheduler.pick()?;
            let estimate = scheduler.started(&tenant);
            scheduler.finished(&tenant, estimate, 0.1);
            (tenant == 1).then_some(())
        });
        assert!(in_a_row.take(100).count() <= 6);
    }

    #[test]
    fn several_workers_do_not_all_serve_the_same_tenant() {
        let mut scheduler = FairScheduler::default();
        scheduler.has_work(&"a");
        scheduler.has_work(&"b");
        let mut picked: Vec<_> = (0..4)
            .map(|_| {
                let tenant = scheduler.pick().unwrap();
                scheduler.started(&tenant);
                tenant
            })
            .collect();
        picked.sort_unstable();
        assert_eq!(picked, ["a", "a", "b", "b"]);
    }

    #[test]
    fn accounts_of_gone_tenants_do_not_pile_up() {
        let mut scheduler = FairScheduler::default();
        for tenant in 0..1000 {
            scheduler.has_work(&tenant);
            let picked = scheduler.pick().unwrap();
            let estimate = scheduler.started(&picked);
            scheduler.has_no_work(&picked);
            scheduler.finished(&picked, estimate, 0.0);
        }
        assert!(scheduler.accounts.len() < 10, "{}", scheduler.accounts.len());
        assert!(scheduler.turns.is_empty());
    }

    proptest! {
        #[test]
        fn whoever_always_waits_gets_an_equal_share_of_time(
            costs in prop::collection::vec(0.001_f64..20.0, 1..8),
            nonsense in prop::collection::vec(any::<f64>(), 0..4),
        ) {
            let mut scheduler = FairScheduler::default();
            // Broken clocks of an earlier tenant must not upset the others.
            scheduler.has_work(&99);
            for seconds in nonsense {
                let estimate = scheduler.started(&99);
                scheduler.finished(&99, estimate, seconds);
            }
            scheduler.has_no_work(&99);
            let used = serve(&mut scheduler, &costs, 3000);
            let dearest = costs.iter().copied().fold(0.0, f64::max);
            let least = used.iter().copied().fold(f64::MAX, f64::min);
            let most = used.iter().copied().fold(0.0, f64::max);
            prop_assert!(most - least <= 2.0 * (dearest + ROUND_SECONDS), "{used:?} for {costs:?}");
        }
    }
}

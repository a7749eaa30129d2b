//! Memory accounts. Every storage holds a charge against one and gives it back when it is dropped.
//!
//! Accounts form a tree: a charge against a child counts for all its ancestors too, so a call can be held to its own limit
//! within its tenant's. A charge keeps its account alive, hence what outlives a call stays on the tenant's account; moving
//! it there ([`Charge::move_to`]) only forgets the call. Accounts are atomics: no lock, any thread.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit in bytes and what is used of it.
pub struct Budget {
    name: Cow<'static, str>,
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    parent: Option<Arc<Budget>>,
}

/// A charge was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{budget} is limited to {limit} bytes, of which {used} are used, and {requested} more were asked for; \
     release tensors, work on smaller ones, or raise the limit"
)]
pub struct BudgetExceeded {
    /// Name of the account.
    pub budget: String,
    /// Its limit in bytes.
    pub limit: u64,
    /// Bytes in use when it was asked.
    pub used: u64,
    /// Bytes asked for.
    pub requested: u64,
}

impl Budget {
    /// An account of its own, called "tensor memory of the tenant".
    pub fn root(limit_bytes: u64) -> Arc<Budget> {
        Self::named("tensor memory of the tenant", limit_bytes)
    }

    /// An account of its own, under the name that errors give.
    pub fn named(name: impl Into<Cow<'static, str>>, limit_bytes: u64) -> Arc<Budget> {
        Arc::new(Budget {
            name: name.into(),
            limit: limit_bytes,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            parent: None,
        })
    }

    /// A part of this account with a limit of its own, called "tensor memory of the call".
    pub fn child(self: &Arc<Self>, limit_bytes: u64) -> Arc<Budget> {
        self.named_child("tensor memory of the call", limit_bytes)
    }

    /// A part of this account, under the name that errors give.
    pub fn named_child(self: &Arc<Self>, name: impl Into<Cow<'static, str>>, limit_bytes: u64) -> Arc<Budget> {
        Arc::new(Budget {
            name: name.into(),
            limit: limit_bytes,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            parent: Some(Arc::clone(self)),
        })
    }

    /// Bytes in use, those of children included.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// This account's own limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The lowest limit among this account and its ancestors.
    pub fn effective_limit(&self) -> u64 {
        self.chain().map(|budget| budget.limit).min().unwrap_or(self.limit)
    }

    /// The account this one is part of.
    pub fn parent(&self) -> Option<&Arc<Budget>> {
        self.parent.as_ref()
    }

    /// Charges `bytes` to this account and its ancestors, or to none of them.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, BudgetExceeded> {
        self.add_below(None, bytes)?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }

    fn chain(&self) -> impl Iterator<Item = &Budget> {
        std::iter::successors(Some(self), |budget| budget.parent.as_deref())
    }

    /// Adds to this account and its ancestors, stopping short of `stop`.
    fn add_below(&self, stop: Option<&Budget>, bytes: u64) -> Result<(), BudgetExceeded> {
        for budget in self.chain_below(stop) {
            if let Err(refused) = budget.add(bytes) {
                for charged in self.chain_below(Some(budget)) {
                    charged.subtract(bytes);
                }
                return Err(refused);
            }
        }
        Ok(())
    }

    fn subtract_below(&self, stop: Option<&Budget>, bytes: u64) {
        for budget in self.chain_below(stop) {
            budget.subtract(bytes);
        }
    }

    fn chain_below<'a>(&'a self, stop: Option<&'a Budget>) -> impl Iterator<Item = &'a Budget> {
        self.chain().take_while(move |budget| !stop.is_some_and(|stop| std::ptr::eq(*budget, stop)))
    }

    fn add(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => {
                Err(BudgetExceeded { budget: self.name.to_string(), limit: self.limit, used, requested: bytes })
            }
        }
    }

    fn subtract(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Budget({}: {} of {} bytes)", self.name, self.used(), self.limit)
    }
}

/// Bytes taken from an account; dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The account they are held from.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Moves the charge to another account. Ancestors that both accounts share are not charged twice, so moving from a
    /// child to its parent cannot fail. When it fails, the charge stays where it was.
    pub fn move_to(&mut self, target: &Arc<Budget>) -> Result<(), BudgetExceeded> {
        if Arc::ptr_eq(&self.budget, target) {
            return Ok(());
        }
        let common = target.chain().find(|candidate| self.budget.chain().any(|own| std::ptr::eq(own, *candidate)));
        target.add_below(common, self.bytes)?;
        self.budget.subtract_below(common, self.bytes);
        self.budget = Arc::clone(target);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.subtract_below(None, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_charge_counts_for_ancestors_and_is_given_back() {
        let tenant = Budget::root(100);
        let call = tenant.child(60);
        let charge = call.charge(50).unwrap();
        assert_eq!((tenant.used(), call.used()), (50, 50));
        drop(charge);
        assert_eq!((tenant.used(), call.used(), call.peak()), (0, 0, 50));
    }

    #[test]
    fn a_refused_charge_leaves_no_trace_and_names_the_limit() {
        let tenant = Budget::root(100);
        let call = tenant.child(1000);
        let _held = call.charge(90).unwrap();
        let refused = call.charge(20).unwrap_err();
        assert_eq!((refused.limit, refused.used, refused.requested), (100, 90, 20));
        assert_eq!((tenant.used(), call.used()), (90, 90));
        assert!(refused.to_string().contains("limited to 100 bytes"));
        assert!(call.charge(u64::MAX).is_err());
    }

    #[test]
    fn a_result_outlives_its_call_on_the_tenants_account() {
        let tenant = Budget::root(100);
        let call = tenant.child(100);
        let kept = call.charge(70).unwrap();
        let mut moved = call.charge(30).unwrap();
        moved.move_to(&tenant).unwrap();
        assert_eq!((tenant.used(), call.used()), (100, 70));
        drop(call);
        assert_eq!(tenant.used(), 100);
        drop(kept);
        drop(moved);
        assert_eq!(tenant.used(), 0);
    }

    #[test]
    fn moving_between_tenants_charges_the_new_one_first() {
        let (a, b) = (Budget::root(100), Budget::root(10));
        let mut charge = a.child(100).charge(50).unwrap();
        assert!(charge.move_to(&b).is_err());
        assert_eq!((a.used(), b.used()), (50, 0));
        let c = Budget::root(50);
        charge.move_to(&c.child(50)).unwrap();
        assert_eq!((a.used(), c.used()), (0, 50));
    }

    #[test]
    fn many_threads_never_pass_the_limit() {
        let tenant = Budget::root(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let call = tenant.child(400);
                    for _ in 0..2000 {
                        let charges: Vec<_> = (0..8).filter_map(|_| call.charge(60).ok()).collect();
                        assert!(tenant.used() <= 1000 && charges.len() <= 6);
                    }
                });
            }
        });
        assert_eq!(tenant.used(), 0);
        assert!(tenant.peak() <= 1000);
    }
}

//! A limit as people see it. Every crate that keeps limits lists them in this form, beside their defaults.

/// One limit, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitEntry {
    /// The field that holds it.
    pub name: &'static str,
    /// In `unit`.
    pub value: u64,
    /// `bytes`, `ms` or `count`.
    pub unit: &'static str,
    /// What it bounds, and the flag that changes it where there is one.
    pub description: &'static str,
}

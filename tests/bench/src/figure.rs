//! Figures: what was measured how often, and what was aimed at.

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Several measurements of the same thing, in order of size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        let at = self.0.partition_point(|other| *other < value);
        self.0.insert(at, value);
    }

    /// Whether anything was measured.
    pub(crate) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The same samples in another unit.
    pub(crate) fn map(&self, convert: impl Fn(f64) -> f64) -> Self {
        self.0.iter().map(|value| convert(*value)).collect()
    }

    /// The value that the given share of all is not above.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a short list")]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.as_slice() {
            [] => f64::NAN,
            values if values.len() % 2 == 1 => values[middle],
            values => f64::midpoint(values[middle - 1], values[middle]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Samples", 4)?;
        object.serialize_field("median", &self.median())?;
        object.serialize_field("min", &self.min())?;
        object.serialize_field("max", &self.max())?;
        object.serialize_field("runs", &self.len())?;
        object.end()
    }
}

/// What to aim at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    /// So many times better than the peer; `recorded` stands for a peer that isn't here.
    TimesBetter {
        factor: f64,
        recorded: f64,
    },
}

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) target: Option<Target>,
    pub(crate) ours: Samples,
    pub(crate) peer: Samples,
    /// The best of each side are compared, instead of the medians.
    pub(crate) by_best: bool,
}

impl Figure {
    pub(crate) fn new(group: &'static str, name: impl Into<String>, unit: &'static str, better: Better) -> Self {
        let (ours, peer) = (Samples::default(), Samples::default());
        Self { group, name: name.into(), unit, better, target: None, ours, peer, by_best: false }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    pub(crate) fn ours(self, ours: Samples) -> Self {
        Self { ours, ..self }
    }

    pub(crate) fn peer(self, peer: Samples) -> Self {
        Self { peer, ..self }
    }

    /// The samples of one side.
    pub(crate) fn of(&mut self, peer: bool) -> &mut Samples {
        if peer { &mut self.peer } else { &mut self.ours }
    }

    /// How many times better ours is than the peer's, where both were measured.
    pub(crate) fn times_better(&self) -> Option<f64> {
        (self.ours.is_any() && self.peer.is_any()).then(|| self.times_better_than(self.shown(&self.peer)))
    }

    fn times_better_than(&self, peer: f64) -> f64 {
        match self.better {
            Better::Lower => peer / self.shown(&self.ours),
            Better::Higher => self.shown(&self.ours) / peer,
        }
    }

    /// The one value that stands for all.
    pub(crate) fn shown(&self, samples: &Samples) -> f64 {
        match (self.by_best, self.better) {
            (false, _) => samples.median(),
            (true, Better::Lower) => samples.min(),
            (true, Better::Higher) => samples.max(),
        }
    }

    /// Whether the target is reached; unknown without a peer or a figure of it.
    pub(crate) fn met(&self) -> Option<bool> {
        let ours = self.shown(&self.ours);
        let target = self.target.filter(|_| self.ours.is_any())?;
        Some(match target {
            Target::AtMost(limit) => ours <= limit,
            Target::TimesBetter { factor, recorded } => {
                let peer = if self.peer.is_any() { self.shown(&self.peer) } else { recorded };
                if peer.is_nan() {
                    return None;
                }
                self.times_better_than(peer) >= factor
            }
        })
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let given = |samples: &Samples| samples.is_any().then(|| samples.clone());
        let mut object = serializer.serialize_struct("Figure", 8)?;
        object.serialize_field("group", self.group)?;
        object.serialize_field("name", &self.name)?;
        object.serialize_field("unit", self.unit)?;
        object.serialize_field("ours", &given(&self.ours))?;
        object.serialize_field("peer", &given(&self.peer))?;
        object.serialize_field("times_better", &self.times_better())?;
        object.serialize_field("target", &self.target.map(|target| target.to_string()))?;
        object.serialize_field("met", &self.met())?;
        object.end()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(formatter, "≤ {limit}"),
            Self::TimesBetter { factor, .. } => write!(formatter, "{factor}× better"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn quantiles_are_values_that_were_measured_and_the_median_lies_between_two() {
        let samples = samples(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((samples.min(), samples.median(), samples.max()), (1.0, 2.5, 4.0));
        assert_eq!(samples.quantile(0.5), 2.0);
        let hundred: Samples = (1..=100).map(f64::from).collect();
        assert_eq!(hundred.quantile(0.99), 99.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_target_relative_to_the_peer_uses_the_recorded_figure_only_without_a_peer() {
        let target = Target::TimesBetter { factor: 5.0, recorded: 200.0 };
        let alone = Figure::new("", "", "", Better::Higher).target(target).ours(samples(&[1000.0]));
        assert_eq!(alone.met(), Some(true));
        assert_eq!(alone.times_better(), None);
        let beside = alone.peer(samples(&[250.0]));
        assert_eq!(beside.met(), Some(false));
        assert_eq!(beside.times_better(), Some(4.0));
    }

    #[test]
    fn where_the_best_are_compared_a_bad_round_changes_nothing() {
        let rate = Figure { by_best: true, ..Figure::new("", "", "", Better::Higher) };
        let rate = rate.ours(samples(&[10.0, 60.0])).peer(samples(&[10.0, 1.0]));
        assert_eq!(rate.times_better(), Some(6.0));
        let time = Figure { by_best: true, better: Better::Lower, ..rate };
        assert_eq!(time.times_better(), Some(0.1));
    }

    #[test]
    fn what_was_not_measured_neither_meets_nor_misses_its_target() {
        let figure = Figure::new("", "", "", Better::Lower).target(Target::AtMost(1.0));
        assert_eq!(figure.met(), None);
    }
}

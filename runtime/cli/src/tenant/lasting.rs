//! How long a token lasts.

use std::{
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];

/// A whole number and a unit: `90m`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lasting {
    pub(crate) seconds: u64,
}

impl FromStr for Lasting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
            text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds).filter(|seconds| *seconds > 0)
        };
        let seconds = parse().ok_or("a time is a whole number and one of s, m, h, d, w, for example 30d")?;
        Ok(Self { seconds })
    }
}

/// What is left of a token's time, in the largest unit that fits.
pub(crate) fn rest(expires: Option<u64>) -> String {
    let Some(expires) = expires else { return "does not expire".to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match expires.checked_sub(now) {
        None | Some(0) => "expired".to_owned(),
        Some(left) => {
            let unit = UNITS.into_iter().rev().skip(1).find(|(_, seconds)| left >= *seconds);
            let (unit, seconds) = unit.unwrap_or(UNITS[0]);
            format!("expires in {}{unit}", left / seconds)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!("30d".parse::<Lasting>().unwrap().seconds, 2_592_000);
        assert_eq!("1w".parse::<Lasting>().unwrap().seconds, 604_800);
        for bad in ["", "d", "30", "0d", "-1d", "1.5h", "99999999999999999999w", "30 d"] {
            assert!(bad.parse::<Lasting>().is_err(), "{bad}");
        }
        assert_eq!((rest(None), rest(Some(5))), ("does not expire".to_owned(), "expired".to_owned()));
    }
}

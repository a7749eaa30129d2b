//! `cvt`: between number types.

use half::{bf16, f16};

/// What a conversion does besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conversion {
    pub(crate) from: Kind,
    pub(crate) to: Kind,
    pub(crate) rounding: Rounding,
    pub(crate) saturate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Half,
    Brain,
    Single,
    Double,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Rounding {
    #[default]
    None,
    NearestEvenInteger,
    TowardZeroInteger,
    DownInteger,
    UpInteger,
    NearestEven,
    TowardZero,
}

impl Conversion {
    /// Of the parts of an opcode such as `cvt.rzi.s32.f32`.
    pub(crate) fn of(parts: &[&str]) -> Option<Conversion> {
        let mut result = Conversion::default();
        let mut kinds = Vec::new();
        for part in &parts[1..] {
            match *part {
                "rni" => result.rounding = Rounding::NearestEvenInteger,
                "rzi" => result.rounding = Rounding::TowardZeroInteger,
                "rmi" => result.rounding = Rounding::DownInteger,
                "rpi" => result.rounding = Rounding::UpInteger,
                "rn" => result.rounding = Rounding::NearestEven,
                "rz" => result.rounding = Rounding::TowardZero,
                "ftz" => {}
                "sat" => result.saturate = true,
                kind => kinds.push(Kind::of(kind)?),
            }
        }
        let [to, from] = kinds.try_into().ok()?;
        Some(Conversion { from, to, ..result })
    }

    pub(crate) fn apply(&self, value: u64) -> u64 {
        match (self.from.is_float(), self.to.is_float()) {
            (false, false) => self.clamp(self.from.integer(value)),
            (false, true) => self.integer_as_float(self.from.integer(value)),
            (true, false) => self.float_as_integer(self.from.float(value)),
            (true, true) => self.between_floats(self.from.float(value)),
        }
    }

    fn clamp(&self, value: i128) -> u64 {
        let (low, high) = self.to.range();
        (if self.saturate { value.clamp(low, high) } else { value }) as u64 & self.to.mask()
    }

    /// Once rounded, straight from the integer.
    fn integer_as_float(&self, value: i128) -> u64 {
        let toward_zero = self.rounding == Rounding::TowardZero;
        match self.to {
            Kind::Double => (value as f64).to_bits(),
            Kind::Single => {
                let near = value as f32;
                let past = toward_zero && (near as i128).unsigned_abs() > value.unsigned_abs();
                u64::from(if past { near.to_bits() - 1 } else { near.to_bits() })
            }
            to => to.store(value as f64, false),
        }
    }

    /// Beyond the range, the nearest end. What is no number becomes zero, but the highest bit alone from a double or to
    /// 64 bits, as the hardware does.
    fn float_as_integer(&self, value: f64) -> u64 {
        let (low, high) = self.to.range();
        if value.is_nan() && (self.from == Kind::Double || self.to.bytes() == 8) {
            return 1 << (8 * self.to.bytes() - 1);
        }
        let rounded = self.rounding.integer(value);
        let whole = if rounded.is_nan() { 0 } else { (rounded as i128).clamp(low, high) };
        whole as u64 & self.to.mask()
    }

    fn between_floats(&self, value: f64) -> u64 {
        let value = self.rounding.integer(value);
        let value = if self.saturate { if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) } } else { value };
        self.to.store(value, self.rounding == Rounding::TowardZero)
    }
}

impl Rounding {
    fn integer(self, value: f64) -> f64 {
        match self {
            Rounding::NearestEvenInteger => value.round_ties_even(),
            Rounding::TowardZeroInteger => value.trunc(),
            Rounding::DownInteger => value.floor(),
            Rounding::UpInteger => value.ceil(),
            _ => value,
        }
    }
}

impl Kind {
    pub(crate) fn of(name: &str) -> Option<Kind> {
        Some(match name {
            "u8" | "b8" => Kind::Unsigned8,
            "u16" | "b16" => Kind::Unsigned16,
            "u32" | "b32" => Kind::Unsigned32,
            "u64" | "b64" => Kind::Unsigned64,
            "s8" => Kind::Signed8,
            "s16" => Kind::Signed16,
            "s32" => Kind::Signed32,
            "s64" => Kind::Signed64,
            "f16" => Kind::Half,
            "bf16" => Kind::Brain,
            "f32" => Kind::Single,
            "f64" => Kind::Double,
            _ => return None,
        })
    }

    fn is_float(self) -> bool {
        matches!(self, Kind::Half | Kind::Brain | Kind::Single | Kind::Double)
    }

    fn bytes(self) -> u32 {
        match self {
            Kind::Unsigned8 | Kind::Signed8 => 1,
            Kind::Unsigned16 | Kind::Signed16 | Kind::Half | Kind::Brain => 2,
            Kind::Unsigned32 | Kind::Signed32 | Kind::Single => 4,
            Kind::Unsigned64 | Kind::Signed64 | Kind::Double => 8,
        }
    }

    fn is_signed(self) -> bool {
        matches!(self, Kind::Signed8 | Kind::Signed16 | Kind::Signed32 | Kind::Signed64)
    }

    fn mask(self) -> u64 {
        // A narrow signed result is sign-extended into its register, which may be wider.
        if self.bytes() == 8 || self.is_signed() { !0 } else { (1u64 << (8 * self.bytes())) - 1 }
    }

    fn range(self) -> (i128, i128) {
        let bits = 8 * self.bytes();
        if self.is_signed() { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) }
    }

    fn integer(self, value: u64) -> i128 {
        let bits = 8 * self.bytes();
        if self.is_signed() {
            i128::from(((value << (64 - bits)) as i64) >> (64 - bits))
        } else {
            i128::from((value << (64 - bits)) >> (64 - bits))
        }
    }

    /// The number that the lowest bits of a register stand for.
    pub(crate) fn float(self, value: u64) -> f64 {
        match self {
            Kind::Half => f16::from_bits(value as u16).to_f64(),
            Kind::Brain => bf16::from_bits(value as u16).to_f64(),
            Kind::Single => f64::from(f32::from_bits(value as u32)),
            _ => f64::from_bits(value),
        }
    }

    fn store(self, value: f64, toward_zero: bool) -> u64 {
        let shrink = |bits: u64, back: f64| if toward_zero && back.abs() > value.abs() { bits - 1 } else { bits };
        match self {
            Kind::Half => {
                let near = f16::from_f64(value);
                shrink(u64::from(near.to_bits()), near.to_f64())
            }
            Kind::Brain => {
                let near = bf16::from_f64(value);
                shrink(u64::from(near.to_bits()), near.to_f64())
            }
            Kind::Single => {
                let near = value as f32;
                shrink(u64::from(near.to_bits()), f64::from(near))
            }
            _ => value.to_bits(),
        }
    }
}

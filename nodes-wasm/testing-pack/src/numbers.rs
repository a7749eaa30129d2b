//! Whole numbers. ComfyUI's have no end; here results must fit -2^63 to 2^64 - 1, what an INT carries, and say so when they
//! do not.

use vivarium_node::prelude::*;

const BOUND: f64 = 18_446_744_073_709_551_615.0;

/// What to do with two numbers.
#[derive(Choice, Clone, Copy, Debug)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

/// Computes with two whole numbers; division rounds down, and a remainder has the sign of the divisor.
#[derive(Node)]
#[node(category = "Testing/Math")]
pub(crate) struct TestIntMathOperation {
    #[input(default = 0, min = -BOUND, max = BOUND, option("step", 1))]
    a: i128,
    #[input(default = 0, min = -BOUND, max = BOUND, option("step", 1))]
    b: i128,
    operation: Operation,
}

impl Run for TestIntMathOperation {
    type Output = i128;

    fn run(self) -> Result<i128> {
        compute(self.a, self.b, self.operation)
    }
}

fn compute(a: i128, b: i128, operation: Operation) -> Result<i128> {
    let needs_divisor = matches!(operation, Operation::Divide | Operation::Modulo);
    if needs_divisor && b == 0 {
        return Err(Error::invalid(format!("{a} cannot be divided by zero")));
    }
    let result = match operation {
        Operation::Add => a.checked_add(b),
        Operation::Subtract => a.checked_sub(b),
        Operation::Multiply => a.checked_mul(b),
        Operation::Divide => a.checked_div_euclid(b).map(|quotient| {
            let rounds_up = b < 0 && a.rem_euclid(b) != 0;
            quotient - i128::from(rounds_up)
        }),
        Operation::Modulo => a.checked_rem(b).map(|rest| {
            let differs = rest != 0 && (rest < 0) != (b < 0);
            if differs { rest + b } else { rest }
        }),
        Operation::Power => u32::try_from(b).ok().and_then(|exponent| a.checked_pow(exponent)),
    };
    result.ok_or_else(|| Error::invalid(format!("the result of {operation:?} for {a} and {b} is no INT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_rounds_down_whatever_the_signs() {
        for (a, b, quotient, rest) in [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -2, -3, 0)] {
            assert_eq!(compute(a, b, Operation::Divide).ok(), Some(quotient), "{a} / {b}");
            assert_eq!(compute(a, b, Operation::Modulo).ok(), Some(rest), "{a} % {b}");
        }
        assert!(compute(1, 0, Operation::Modulo).is_err());
    }

    #[test]
    fn results_without_end_are_errors() {
        assert_eq!(compute(2, 63, Operation::Power).ok(), Some(1 << 63));
        assert!(compute(2, 127, Operation::Power).is_err() && compute(2, -1, Operation::Power).is_err());
    }
}

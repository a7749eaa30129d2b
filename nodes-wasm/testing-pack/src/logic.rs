//! Conditions.

use vivarium_node::prelude::*;
use vivarium_node::tensor::ReduceOp;
use vivarium_node::value::Handle;

use crate::variants::check_own_types;

const BOUND: f64 = 18_446_744_073_709_551_615.0;

/// How two numbers compare.
#[derive(Choice, Clone, Copy)]
enum Comparison {
    #[choice("==")]
    Equal,
    #[choice("!=")]
    Unequal,
    #[choice("<")]
    Less,
    #[choice(">")]
    Greater,
    #[choice("<=")]
    AtMost,
    #[choice(">=")]
    AtLeast,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Unequal => a != b,
            Self::Less => a < b,
            Self::Greater => a > b,
            Self::AtMost => a <= b,
            Self::AtLeast => a >= b,
        }
    }
}

/// Compares whole numbers.
#[derive(Node)]
#[node(category = "Testing/Logic", validate_types)]
pub(crate) struct TestIntConditions {
    #[input(default = 0, min = -BOUND, max = BOUND, option("step", 1))]
    a: i128,
    #[input(default = 0, min = -BOUND, max = BOUND, option("step", 1))]
    b: i128,
    operation: Comparison,
}

impl Run for TestIntConditions {
    type Output = bool;

    fn run(self) -> Result<bool> {
        Ok(self.operation.holds(self.a, self.b))
    }
}

/// Compares numbers.
#[derive(Node)]
#[node(category = "Testing/Logic", validate_types)]
pub(crate) struct TestFloatConditions {
    #[input(default = 0.0, min = -999_999_999_999.0, max = 999_999_999_999.0, step = 1.0)]
    a: f64,
    #[input(default = 0.0, min = -999_999_999_999.0, max = 999_999_999_999.0, step = 1.0)]
    b: f64,
    operation: Comparison,
}

impl Run for TestFloatConditions {
    type Output = bool;

    fn run(self) -> Result<bool> {
        Ok(self.operation.holds(self.a, self.b))
    }
}

/// How two texts compare.
#[derive(Choice, Clone, Copy)]
enum TextCondition {
    #[choice("a == b")]
    Equal,
    #[choice("a != b")]
    Unequal,
    #[choice("a IN b")]
    In,
    #[choice("a MATCH REGEX(b)")]
    Matches,
    #[choice("a BEGINSWITH b")]
    Begins,
    #[choice("a ENDSWITH b")]
    Ends,
}

/// Compares texts.
#[derive(Node)]
#[node(category = "Testing/Logic", validate_types)]
pub(crate) struct TestStringConditions {
    a: String,
    b: String,
    operation: TextCondition,
    #[input(default = true)]
    case_sensitive: bool,
}

impl Run for TestStringConditions {
    type Output = bool;

    fn run(self) -> Result<bool> {
        let fold = |text: String| if self.case_sensitive { text } else { text.to_lowercase() };
        let (a, b) = (fold(self.a), fold(self.b));
        Ok(match self.operation {
            TextCondition::Equal => a == b,
            TextCondition::Unequal => a != b,
            TextCondition::In => b.contains(&a),
            TextCondition::Matches => matches_at_start(&a, &b),
            TextCondition::Begins => a.starts_with(&b),
            TextCondition::Ends => a.ends_with(&b),
        })
    }
}

/// A pattern that is none matches nothing.
fn matches_at_start(text: &str, pattern: &str) -> bool {
    let pattern = regex_lite::Regex::new(&format!("^(?:{pattern})"));
    pattern.is_ok_and(|pattern| pattern.is_match(text))
}

/// What Python takes a value for in a condition; a tensor is false when it is zero everywhere.
#[derive(Node)]
#[node(category = "Testing/Logic")]
pub(crate) struct TestToBoolNode {
    value: Value,
    #[input(optional, default = false)]
    invert: bool,
}

impl Run for TestToBoolNode {
    type Output = bool;

    fn run(self) -> Result<bool> {
        Ok(truth(&self.value)? != self.invert)
    }
}

fn truth(value: &Value) -> Result<bool> {
    Ok(match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Dict(entries) => !entries.is_empty(),
        Value::Handle(Handle::Tensor(tensor)) => tensor.not_equal(0.0).reduce(ReduceOp::Any, [], false).item()? != 0.0,
        _ => true,
    })
}

/// How two conditions join.
#[derive(Choice, Clone, Copy)]
enum Join {
    #[choice("a AND b")]
    And,
    #[choice("a OR b")]
    Or,
    #[choice("a XOR b")]
    Xor,
    #[choice("NOT a")]
    Not,
}

/// Joins two conditions.
#[derive(Node)]
#[node(category = "Testing/Logic", validate_types)]
pub(crate) struct TestBoolOperationNode {
    a: bool,
    b: bool,
    op: Join,
}

impl Run for TestBoolOperationNode {
    type Output = bool;

    fn run(self) -> Result<bool> {
        Ok(match self.op {
            Join::And => self.a && self.b,
            Join::Or => self.a || self.b,
            Join::Xor => self.a != self.b,
            Join::Not => !self.a,
        })
    }
}

check_own_types!(TestIntConditions, TestFloatConditions, TestStringConditions, TestBoolOperationNode);

#[cfg(test)]
mod tests {
    use super::matches_at_start;

    #[test]
    fn a_pattern_matches_at_the_start_and_a_broken_one_never() {
        assert!(matches_at_start("abc", "a|b") && matches_at_start("abc", "ab"));
        assert!(!matches_at_start("abc", "b") && !matches_at_start("abc", "("));
    }
}

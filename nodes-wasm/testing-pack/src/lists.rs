//! Lists, and accumulations: one value that holds many.

use vivarium_node::prelude::*;

use crate::variants::check_own_types;

/// Values of any type, as one value.
#[derive(ValueType)]
#[value_type("ACCUMULATION")]
pub(crate) struct Accumulation {
    accum: Vec<Value>,
}

fn place(index: i64, length: usize) -> Result<usize> {
    // As in Python, negative numbers count from the end.
    let from_start = if index < 0 { index + i64::try_from(length)? } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|place| *place < length)
        .ok_or_else(|| Error::invalid(format!("there is no number {index} among {length} values")))
}

/// Adds a value at the end.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulateNode {
    to_add: Value,
    accumulation: Option<Accumulation>,
}

impl Run for TestAccumulateNode {
    type Output = Accumulation;

    fn run(self) -> Result<Accumulation> {
        let mut accum = self.accumulation.map(|accumulation| accumulation.accum).unwrap_or_default();
        accum.push(self.to_add);
        Ok(Accumulation { accum })
    }
}

/// Takes the first value off.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulationHeadNode {
    accumulation: Accumulation,
}

impl Run for TestAccumulationHeadNode {
    type Output = (Accumulation, Option<Value>);

    fn run(self) -> Result<(Accumulation, Option<Value>)> {
        let mut accum = self.accumulation.accum;
        if accum.is_empty() {
            return Ok((Accumulation { accum }, None));
        }
        let head = accum.remove(0);
        Ok((Accumulation { accum }, Some(head)))
    }
}

/// Takes the last value off.
#[derive(Node)]
#[node(category = "Testing/Lists")]
pub(crate) struct TestAccumulationTailNode {
    accumulation: Accumulation,
}

impl Run for TestAccumulationTailNode {
    type Output = (Option<Accumulation>, Value);

    fn run(self) -> Result<(Option<Accumulation>, Value)> {
        let mut accum = self.accumulation.accum;
        match accum.pop() {
            Some(tail) => Ok((Some(Accumulation { accum }), tail)),
            None => Ok((None, Accumulation { accum }.into_value()?)),
        }
    }
}

/// Spreads the values out.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulationToListNode {
    accumulation: Accumulation,
}

impl Run for TestAccumulationToListNode {
    type Output = Vec<Value>;

    fn run(self) -> Result<Vec<Value>> {
        Ok(self.accumulation.accum)
    }
}

/// Gathers a list into one value.
#[derive(Node)]
#[node(category = "Testing/Lists", input_is_list, validate_types)]
pub(crate) struct TestListToAccumulationNode {
    list: Vec<Value>,
}

impl Run for TestListToAccumulationNode {
    type Output = Accumulation;

    fn run(self) -> Result<Accumulation> {
        Ok(Accumulation { accum: self.list })
    }
}

/// Counts the values.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulationGetLengthNode {
    accumulation: Accumulation,
}

impl Run for TestAccumulationGetLengthNode {
    type Output = u64;

    fn run(self) -> Result<u64> {
        Ok(self.accumulation.accum.len() as u64)
    }
}

/// Reads one value.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulationGetItemNode {
    accumulation: Accumulation,
    #[input(default = 0, step = 1)]
    index: i64,
}

impl Run for TestAccumulationGetItemNode {
    type Output = Value;

    fn run(mut self) -> Result<Value> {
        let place = place(self.index, self.accumulation.accum.len())?;
        Ok(self.accumulation.accum.swap_remove(place))
    }
}

/// Replaces one value in a copy.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestAccumulationSetItemNode {
    accumulation: Accumulation,
    #[input(default = 0, step = 1)]
    index: i64,
    value: Value,
}

impl Run for TestAccumulationSetItemNode {
    type Output = Accumulation;

    fn run(mut self) -> Result<Accumulation> {
        let place = place(self.index, self.accumulation.accum.len())?;
        self.accumulation.accum[place] = self.value;
        Ok(self.accumulation)
    }
}

/// Makes a list of its inputs; those that are left out are skipped.
#[derive(Node)]
#[node(category = "Testing/Lists", validate_types)]
pub(crate) struct TestMakeListNode {
    value1: Value,
    value2: Option<Value>,
    value3: Option<Value>,
    value4: Option<Value>,
    value5: Option<Value>,
    value6: Option<Value>,
    value7: Option<Value>,
    value8: Option<Value>,
    value9: Option<Value>,
}

impl Run for TestMakeListNode {
    type Output = Vec<Value>;

    fn run(self) -> Result<Vec<Value>> {
        let more =
            [self.value2, self.value3, self.value4, self.value5, self.value6, self.value7, self.value8, self.value9];
        Ok([self.value1].into_iter().chain(more.into_iter().flatten()).collect())
    }
}

check_own_types!(
    TestAccumulateNode,
    TestAccumulationHeadNode,
    TestAccumulationToListNode,
    TestListToAccumulationNode,
    TestAccumulationGetLengthNode,
    TestAccumulationGetItemNode,
    TestAccumulationSetItemNode,
    TestMakeListNode,
);

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_count_from_both_ends() {
        assert_eq!(place(1, 3).ok(), Some(1));
        assert_eq!(place(-1, 3).ok(), Some(2));
        assert!(place(3, 3).is_err() && place(-4, 3).is_err() && place(0, 0).is_err());
    }
}

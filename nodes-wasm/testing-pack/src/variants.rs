//! Classes that check the types of their links by themselves, instead of leaving that to the server: every type that a link
//! may carry must be among those that the input names.

use vivarium_node::prelude::*;

/// What is wrong with the links of a node of class `T`.
pub(crate) fn check<T: Node>(inputs: &Constants) -> Vec<Finding> {
    let definition = T::definition();
    let findings = inputs.linked_types().filter_map(|(name, received)| {
        let wanted = &definition.input(name)?.input_type;
        (!fits(received, wanted))
            .then(|| Finding::on(name, format!("Invalid type of {name}: {received} (expected {wanted})")))
    });
    findings.collect()
}

fn fits(received: &str, wanted: &str) -> bool {
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
    wanted.contains(&"*") || received == "*" || received.split(',').all(|part| wanted.contains(&part.trim()))
}

/// Gives classes the validator of this module; they say `validate_types` in `#[node(…)]`.
macro_rules! check_own_types {
    ($($node:ty),* $(,)?) => {$(
        impl Validate for $node {
            fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
                Ok($crate::variants::check::<Self>(inputs))
            }
        }
    )*};
}

pub(crate) use check_own_types;

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn every_type_that_may_arrive_must_be_wanted() {
        assert!(
            fits("IMAGE", "IMAGE,FLOAT") && fits("IMAGE, FLOAT", "FLOAT,IMAGE") && fits("X", "*") && fits("*", "X")
        );
        assert!(!fits("INT", "IMAGE,FLOAT") && !fits("IMAGE,INT", "IMAGE,FLOAT"));
    }
}

//! Messages for whoever runs the server. Bounded per call: what exceeds the limit is dropped and counted.

use std::fmt::Display;

use crate::bindings::vivarium::node::log::{Level, write};

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident $level:ident),*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Display) {
            write(Level::$level, &message.to_string());
        }
    )*};
}

levels! {
    /// Every step.
    trace Trace,
    /// For the author of the node.
    debug Debug,
    /// What happened.
    info Info,
    /// Something is odd, and the node goes on.
    warn Warn,
    /// Something went wrong.
    error Error
}

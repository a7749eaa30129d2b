//! Results on stdout.

use std::{
    fmt::Arguments,
    io::{Write, stdout},
    process::exit,
};

/// Prints a line. When nobody reads any more (`vivarium nodes | head -1`), the process ends quietly: there is nobody left
/// to tell, and `println!` would panic.
pub(crate) fn line(text: Arguments<'_>) {
    if writeln!(stdout(), "{text}").is_err() {
        exit(0);
    }
}

/// As `println!`, through [`line()`].
macro_rules! say {
    ($($text:tt)+) => { $crate::output::line(format_args!($($text)+)) };
}
pub(crate) use say;

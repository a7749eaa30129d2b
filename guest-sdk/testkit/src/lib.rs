//! Unit tests of a node pack, with plain `cargo test`, in the sandbox that servers run it in.
//!
//! A pack has this crate under `[dev-dependencies]`; `vivarium pack new` puts it there. [`Pack::of_this_crate`] builds the
//! component once per test program, and [`Pack::node`] calls a node of it:
//!
//! ```no_run
//! use vivarium_testkit::{Image, Pack};
//!
//! #[test]
//! fn a_stop_is_twice_the_light() {
//!     let grey = Image::filled(8, 8, [0.25; 3]);
//!     let answer = Pack::of_this_crate().node("MyPackBrighten").input("image", grey).input("stops", 1.0).run();
//!     assert_eq!(answer.output(0).image().pixel(0, 0), [0.5; 3]);
//! }
//! ```
//!
//! # The program
//! This crate is small, so that the first `cargo test` of a pack does not take long. The sandbox is in the program `vivarium`,
//! the one that `vivarium pack new` was: the first call starts it, and it ends with the test program. It is looked for in
//! `PATH`; the environment variable `VIVARIUM` can hold another path. Program and crate should come from the same version of
//! Vivarium, and say so when they don't understand each other.
//!
//! # What a test can do
//! Every call runs in a fresh instance under the limits of a server, with no powers but those that the test gives:
//!
//! | a node that … | the test says |
//! |---|---|
//! | takes numbers, texts, choices, lists, dictionaries | [`NodeCall::input`] with a number, `&str`, `Vec`, [`Value::dictionary`] or JSON |
//! | takes pixels | [`Image`], [`Mask`], [`Tensor`] |
//! | leaves inputs at their default | nothing: as in a user interface, the default is filled in |
//! | has lazy inputs | gives all of them; only those that the node asks for reach it ([`Answer::asked_for`]) |
//! | loads image files | [`NodeCall::image_file`] |
//! | saves images | [`Answer::saved`] |
//! | reads weights | [`NodeCall::model`] and [`NodeCall::grant`] |
//! | reads secrets | [`NodeCall::secret`] and [`NodeCall::grant`] |
//! | sends HTTP requests | [`NodeCall::http`] and [`NodeCall::grant`]; [`Answer::requests`] has what was sent |
//! | keeps scratch files, reads input folders | [`NodeCall::scratch_file`], [`Answer::scratch`], [`NodeCall::folder_file`] |
//! | reports progress, shows previews, logs | [`Answer::progress`], [`Answer::log`] |
//! | shows something beside itself | [`Answer::ui`] |
//! | blocks its outputs, or answers with other nodes | [`Answer::blocked`], [`Answer::expansion`] |
//! | makes objects | [`Value::object_type`], [`Pack::call_method`] |
//! | refuses | [`NodeCall::fails`], which answers a [`Failure`] |
//! | must stop when it is interrupted | [`NodeCall::interrupt_at`] |
//! | must keep to a limit | [`NodeCall::limit`] |
//! | has a validator, a fingerprint | [`NodeCall::validate`], [`NodeCall::fingerprint`] |
//!
//! A test that went wrong panics with a sentence, so tests need no `unwrap`.
//!
//! Not here: whole workflows and the checks that a server makes before a node runs (types of links, ranges). `vivarium pack
//! test` runs the workflows that `pack.toml` names.
//!
//! # Layout
//! - [`Pack`]: a component and where it comes from; [`cargo`] builds the one of the crate under test
//! - [`NodeCall`]: one call of a node, being prepared
//! - [`Answer`], [`Failure`]: how it ended; [`notebook`]: what the node did on the way
//! - [`Value`], [`Tensor`], [`Image`], [`Mask`]: what goes in and comes out
//! - [`program`]: the `vivarium` that runs the nodes; [`wire`]: what it is told and answers
//! - [`TestkitError`]: what can be wrong with it

#![forbid(unsafe_code)]

mod answer;
mod call;
mod cargo;
mod error;
mod notebook;
mod pack;
mod pixels;
mod program;
mod tensor;
mod value;
pub mod wire;

pub use answer::{Answer, Failure, FailureKind};
pub use call::NodeCall;
pub use error::TestkitError;
pub use notebook::{Finding, LogLevel, LogLine, OutputFolder, Progress, Request, Saved};
pub use pack::Pack;
pub use pixels::{Image, Mask};
pub use program::use_program;
pub use tensor::{DType, Tensor};
pub use value::Value;

pub use vivarium_protocol::definition;

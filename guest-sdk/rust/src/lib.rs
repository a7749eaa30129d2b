//! What a Vivarium node is written against.
//!
//! A node is a struct, whose fields are its inputs, and a function. `#[derive(Node)]` turns types, doc comments and
//! `#[input(…)]` into what ComfyUI's clients see; [`pack!`] turns nodes into a WebAssembly component.
//!
//! ```
//! use vivarium_node::prelude::*;
//!
//! /// Mixes two images.
//! #[derive(Node)]
//! #[node(category = "image/example")]
//! struct Mix {
//!     first: Image,
//!     second: Image,
//!     /// 0 is the first image, 1 the second.
//!     #[input(default = 0.5, min = 0.0, max = 1.0, step = 0.01)]
//!     amount: f64,
//! }
//!
//! impl Run for Mix {
//!     type Output = Image;
//!
//!     fn run(self) -> Result<Image> {
//!         Ok(self.first * (1.0 - self.amount) + self.second * self.amount)
//!     }
//! }
//!
//! pack! {
//!     name: "example",
//!     version: env!("CARGO_PKG_VERSION"),
//!     publisher: "Somebody",
//!     description: "One node that mixes.",
//!     nodes: [Mix],
//! }
//! # fn main() {
//! # let definition = &PACK.definition().nodes[0];
//! # assert_eq!(definition.class_type, "Mix");
//! # assert_eq!(definition.inputs[2].options["tooltip"], "0 is the first image, 1 the second.");
//! # }
//! ```
//!
//! `vivarium pack new` makes a folder with such a pack and its tests; what follows is one section per thing that a node can do.
//!
#![doc = include_str!("../guide.md")]
//!
//! Not here: how tensors are computed (the host does that), sockets and files of the system (a guest has none), state (every
//! call runs in a fresh instance; what must survive is an output or an [`Object`]).
//!
//! # Layout
//! - [`node`]: what a class is: [`Run`] and its optional hooks
//! - [`input`], [`output`]: between Rust types and ComfyUI's types
//! - [`tensor`], [`media`], [`object`], [`value`]: what travels along links
//! - [`codec`]: how values cross the boundary
//! - [`context`], [`progress`], [`log`], [`files`], [`weights`], [`secrets`], [`http`], [`scratch`], [`folders`], [`random`]:
//!   what a node may ask of the host
//! - [`pack`](mod@pack): from exports to nodes
//! - [`bindings`]: the raw interface, made by wit-bindgen

#![deny(unsafe_code)]

// The derives name this crate by its public name, also in its own tests.
extern crate self as vivarium_node;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[rustfmt::skip]
pub mod bindings;
pub mod codec;
pub mod context;
pub mod error;
pub mod files;
pub mod folders;
pub mod http;
pub mod input;
pub mod log;
pub mod media;
pub mod node;
pub mod object;
pub mod output;
pub mod pack;
pub mod progress;
pub mod random;
pub mod scratch;
pub mod secrets;
pub mod tensor;
pub mod value;
pub mod weights;

pub use vivarium_node_macro::{Choice, Node, ValueType};
pub use vivarium_protocol::definition;

pub use error::{Error, ErrorKind, Result};
pub use input::{Choice, Constants, Inputs, Lazy, Rest, ValueType};
pub use media::{Audio, Conditioning, ConditioningPart, Image, ImageSize, Latent, Mask};
pub use node::{Change, Finding, Fingerprint, NeededInputs, Node, Run, Validate};
pub use object::{Arguments, Methods, Object};
pub use output::{Blockable, Expansion, NodeOutput, Outcome, Ui, WithUi};
pub use pack::{NodeEntry, ObjectEntry, Pack};
pub use tensor::{Dtype, InterpolateMode, PadMode, Tensor};
pub use value::{Handle, Json, Value};

/// Everything that a file with nodes needs.
pub mod prelude {
    pub use crate::{
        Arguments, Audio, Blockable, Change, Choice, Conditioning, Constants, Dtype, Error, Expansion, Finding,
        Fingerprint, Image, InterpolateMode, Json, Latent, Lazy, Mask, Methods, NeededInputs, Node, NodeOutput, Object,
        Outcome, PadMode, Result, Run, Tensor, Ui, Validate, Value, ValueType, WithUi, pack,
    };
}

/// Mistakes that only the compiler can see, because they are in types.
///
/// A list without `input_is_list`:
/// ```compile_fail,E0080
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example")]
/// struct Sum { values: Vec<i64> }
/// # impl Run for Sum { type Output = i64; fn run(self) -> Result<i64> { Ok(0) } }
/// # fn main() {}
/// ```
/// A lazy input that nobody asks for:
/// ```compile_fail,E0080
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example")]
/// struct Pick { image: Lazy<Image> }
/// # impl Run for Pick { type Output = (); fn run(self) -> Result<()> { Ok(()) } }
/// # fn main() {}
/// ```
/// A default of another type than the field:
/// ```compile_fail,E0308
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example")]
/// struct Wide { #[input(default = 0.5)] width: i64 }
/// # impl Run for Wide { type Output = (); fn run(self) -> Result<()> { Ok(()) } }
/// # fn main() {}
/// ```
/// A range for something that is no number:
/// ```compile_fail,E0277
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example")]
/// struct Text { #[input(min = 1)] text: String }
/// # impl Run for Text { type Output = (); fn run(self) -> Result<()> { Ok(()) } }
/// # fn main() {}
/// ```
/// A hook that is written and not announced:
/// ```compile_fail,E0119
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example")]
/// struct Now {}
/// # impl Run for Now { type Output = (); fn run(self) -> Result<()> { Ok(()) } }
/// impl Fingerprint for Now {
///     fn fingerprint(_: &Constants) -> Result<Change> { Ok(Change::Always) }
/// }
/// # fn main() {}
/// ```
/// A hook that is announced and not written:
/// ```compile_fail,E0277
/// # use vivarium_node::prelude::*;
/// #[derive(Node)]
/// #[node(category = "example", fingerprint)]
/// struct Now {}
/// # impl Run for Now { type Output = (); fn run(self) -> Result<()> { Ok(()) } }
/// # fn main() {}
/// ```
#[cfg(doctest)]
struct Mistakes;

//! The derives of `vivarium-node`.
//!
//! They only read syntax and write down what it says; everything that needs types is left to the traits of
//! `vivarium-node`, so that a wrong type is reported by the compiler at the field.
//!
//! # Layout
//! - [`node`] is `#[derive(Node)]`, [`attributes`] what may stand in `#[node(…)]` and `#[input(…)]`
//! - [`choice`] is `#[derive(Choice)]`, enums as the choices of a COMBO
//! - [`value_type`] is `#[derive(ValueType)]`, structs as values
//! - [`text`] reads doc comments and names

#![forbid(unsafe_code)]

mod attributes;
mod choice;
mod node;
mod text;
mod value_type;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a node class of a struct whose fields are its inputs. The struct needs `impl Run` beside it.
///
/// The doc comment of the struct becomes the description, that of a field its tooltip.
///
/// `#[node(…)]` on the struct:
/// - `category = "image/filter"`: where menus show it; the only one that must be there
/// - `name = "…"`: the class name in prompts, if not the struct's; `display_name = "…"`: what UIs show
/// - `output_names("a", "b")`, `output_types("MODEL", …)`, `output_tooltips("…", …)`: one per output
/// - `output_node`, `input_is_list`, `not_idempotent`, `deprecated`, `experimental`: as in ComfyUI
/// - `validate(image, …)`, `validate_all`, `validate_types`: it has `impl Validate`, which checks these inputs, all
///   inputs, or the types of links in place of the server
/// - `fingerprint`: it has `impl Fingerprint`; `needed_inputs`: it has `impl NeededInputs`. A hook that is not announced
///   here gets an empty implementation, so one that is written anyway is a conflict.
///
/// `#[input(…)]` on a field:
/// - `default`, `min`, `max`, `step`, `round`, `display`, `multiline`, `dynamic_prompts`, `placeholder`, `force_input`,
///   `raw_link`, `image_upload`, `control_after_generate`, `label_on`, `label_off`, `advanced`, `socketless`: as in
///   ComfyUI; flags stand alone, the others are `key = value`
/// - `option("key", value)`: any other option of ComfyUI
/// - `name = "…"`: the name in prompts, if not the field's; `type = "MODEL"`: the type, if not that of the field's type
/// - `optional`: may be left out although the field is no `Option`; needs a `default`
/// - `hidden = "PROMPT"`: the host fills it in; PROMPT, DYNPROMPT, EXTRA_PNGINFO or UNIQUE_ID
/// - `choices("a", "b")`, `choices_from = "input_images"` or `"models/vae"`: makes a text a COMBO
/// - `rest`: gets all undeclared inputs; the field is a `Rest`
#[proc_macro_derive(Node, attributes(node, input))]
pub fn derive_node(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    node::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes the variants of an enum the choices of a COMBO, in snake_case or as `#[choice("nearest-exact")]` says.
#[proc_macro_derive(Choice, attributes(choice))]
pub fn derive_choice(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    choice::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a value of a struct: a dictionary of its fields, called `#[value_type("MY_TYPE")]` on links. The usual state of an
/// object.
#[proc_macro_derive(ValueType, attributes(value_type))]
pub fn derive_value_type(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    value_type::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

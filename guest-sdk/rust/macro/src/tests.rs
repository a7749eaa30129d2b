//! What an author reads who wrote something wrong. Wrong types are found by the compiler later; see the tests of
//! `vivarium-node`.

use syn::{DeriveInput, Result, parse_quote};

fn message(result: Result<proc_macro2::TokenStream>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

fn node(input: DeriveInput) -> String {
    message(crate::node::derive(&input))
}

fn choice(input: DeriveInput) -> String {
    message(crate::choice::derive(&input))
}

#[test]
fn a_node_needs_a_place_in_the_menus() {
    let error = node(parse_quote!(
        struct Invert {
            image: Image,
        }
    ));
    assert_eq!(error, "say where menus show the node: #[node(category = \"image/filter\")]");
}

#[test]
fn only_a_struct_with_named_fields_can_be_a_node() {
    let wanted = "a node is a struct whose fields are its inputs: write `struct … { image: Image, … }`";
    assert_eq!(
        node(parse_quote!(
            struct Invert(Image);
        )),
        wanted
    );
    assert_eq!(
        node(parse_quote!(
            enum Invert {
                A,
            }
        )),
        wanted
    );
}

#[test]
fn a_mistyped_key_is_answered_with_the_keys_there_are() {
    let error = node(parse_quote! {
        #[node(categroy = "image")]
        struct Invert {}
    });
    assert!(error.starts_with("unknown key `categroy`; a node has category, name, "), "{error}");
    let error = node(parse_quote! {
        #[node(category = "image")]
        struct Invert {
            #[input(defualt = 1)]
            width: i64,
        }
    });
    assert!(error.starts_with("unknown key `defualt`; an input has default, min, max, "), "{error}");
}

#[test]
fn what_is_said_elsewhere_says_where() {
    let input = |attribute: syn::Attribute| {
        node(parse_quote! {
            #[node(category = "image")]
            struct Invert {
                #attribute
                width: i64,
            }
        })
    };
    assert_eq!(input(parse_quote!(#[input(lazy)])), "a lazy input is a field of type `Lazy<T>`");
    assert_eq!(
        input(parse_quote!(#[input(tooltip = "x")])),
        "the tooltip is the field's doc comment: write `/// …` above it"
    );
    assert_eq!(
        input(parse_quote!(#[input(optional)])),
        "what is the value when it is left out? Add `default = …`, or make the field an `Option`"
    );
    assert_eq!(
        input(parse_quote!(#[input(hidden = "SECRET")])),
        "expected PROMPT, DYNPROMPT, EXTRA_PNGINFO, UNIQUE_ID, or * for what an expansion sets"
    );
    assert_eq!(
        input(parse_quote!(#[input(choices_from = "models/")])),
        "expected \"input_images\" or \"models/<folder>\""
    );
}

#[test]
fn a_validator_names_inputs_that_exist() {
    let error = node(parse_quote! {
        #[node(category = "image", validate(imgae))]
        struct Load {
            image: String,
        }
    });
    assert_eq!(error, "the node has no input `imgae`");
    let error = node(parse_quote! {
        #[node(category = "image", validate)]
        struct Load {
            image: String,
        }
    });
    assert_eq!(error, "name the inputs that it checks: validate(image), or write validate_all");
}

#[test]
fn choices_are_an_enum_without_data() {
    let error = choice(parse_quote!(
        struct Mode {}
    ));
    assert_eq!(error, "the choices of an input are an enum: write `enum … { … }`");
    let error = choice(parse_quote!(
        enum Mode {
            A(u8),
        }
    ));
    assert_eq!(error, "a choice holds no data: write the variant without fields");
    let error = choice(parse_quote!(
        enum Mode {}
    ));
    assert_eq!(error, "an input with choices needs at least one: add a variant");
}

#[test]
fn a_value_type_has_a_name_on_links() {
    let input: DeriveInput = parse_quote!(
        struct Counter {
            total: i64,
        }
    );
    let error = message(crate::value_type::derive(&input));
    assert_eq!(error, "say what the type is called on links: #[value_type(\"MY_TYPE\")]");
}

//! `#[derive(Node)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, Type};

use crate::attributes::{InputAttributes, InputOption, NodeAttributes, OptionValue};
use crate::text;

/// One field of the struct.
struct Input<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    name: String,
    attributes: InputAttributes,
    tooltip: String,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a node has no type parameters: use `Value` for any type"));
    }
    let inputs = fields(input)?.map(read_field).collect::<Result<Vec<_>>>()?;
    let attributes = NodeAttributes::parse(&input.attrs)?;
    let node = node_impl(input, &attributes, &inputs)?;
    let unused = unused_hooks(&input.ident, &attributes);
    let announced = announced_hooks(&input.ident, &attributes);
    let checks = checks(&attributes, &inputs)?;
    Ok(quote!(#node #unused #announced #checks))
}

fn fields(input: &DeriveInput) -> Result<Box<dyn Iterator<Item = &Field> + '_>> {
    let wanted = "a node is a struct whose fields are its inputs: write `struct … { image: Image, … }`";
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Ok(Box::new(fields.named.iter())),
            Fields::Unit => Ok(Box::new(std::iter::empty())),
            Fields::Unnamed(fields) => Err(Error::new_spanned(fields, wanted)),
        },
        _ => Err(Error::new_spanned(&input.ident, wanted)),
    }
}

fn read_field(field: &Field) -> Result<Input<'_>> {
    let Some(ident) = &field.ident else { return Err(Error::new_spanned(field, "an input needs a name")) };
    let attributes = InputAttributes::parse(&field.attrs)?;
    let name = attributes.name.as_ref().map_or_else(|| ident.unraw().to_string(), syn::LitStr::value);
    Ok(Input { ident, ty: &field.ty, name, attributes, tooltip: text::documentation(&field.attrs) })
}

fn node_impl(input: &DeriveInput, attributes: &NodeAttributes, inputs: &[Input<'_>]) -> Result<TokenStream> {
    let ident = &input.ident;
    let class = attributes.name.as_ref().map_or_else(|| ident.to_string(), syn::LitStr::value);
    let title = attributes.display_name.as_ref().map_or_else(|| text::title(&class), syn::LitStr::value);
    let description = text::documentation(&input.attrs);
    let category = attributes.category.as_ref().ok_or_else(|| {
        Error::new_spanned(ident, "say where menus show the node: #[node(category = \"image/filter\")]")
    })?;

    let declared = inputs.iter().filter(|input| !input.attributes.rest);
    let definitions = declared.map(Input::definition).collect::<Result<Vec<_>>>()?;
    let settings = settings(attributes, inputs);
    let NodeAttributes { output_names, output_types, output_tooltips, .. } = attributes;
    let reads = inputs.iter().map(Input::read);

    Ok(quote! {
        #[automatically_derived]
        impl ::vivarium_node::Node for #ident {
            const CLASS: &'static str = #class;

            fn definition() -> ::vivarium_node::definition::NodeDefinition {
                let mut node = ::vivarium_node::__private::node(#class, #title, #description, #category);
                #(node.inputs.push(#definitions);)*
                node.outputs = ::vivarium_node::__private::outputs::<
                    <<Self as ::vivarium_node::Run>::Output as ::vivarium_node::output::Answer>::Slots
                >(&[#(#output_names),*], &[#(#output_types),*], &[#(#output_tooltips),*]);
                #settings
                node
            }

            #[allow(unused_variables)]
            fn from_inputs(inputs: &mut ::vivarium_node::Inputs) -> ::vivarium_node::Result<Self> {
                #[allow(clippy::init_numbered_fields)]
                ::core::result::Result::Ok(Self { #(#reads),* })
            }
        }
    })
}

/// The statements that set what is not the default.
fn settings(attributes: &NodeAttributes, inputs: &[Input<'_>]) -> TokenStream {
    let flags = attributes.flags.iter();
    let mut statements = quote!(#(node.#flags = true;)*);
    if attributes.validates() {
        let (all, types) = (attributes.validate_all, attributes.validate_types);
        let names = attributes.validate.iter().map(|ident| name_of(ident, inputs));
        statements.extend(quote! {
            node.validator = ::core::option::Option::Some(::vivarium_node::definition::Validator {
                inputs: ::std::vec![#(::std::string::String::from(#names)),*],
                all_inputs: #all,
                input_types: #types,
            });
        });
    }
    if attributes.fingerprint {
        statements.extend(quote!(node.has_fingerprint = true;));
    }
    if attributes.needed_inputs {
        statements.extend(quote!(node.has_needed_inputs = true;));
    }
    if inputs.iter().any(|input| input.attributes.rest) {
        statements.extend(quote!(node.accepts_undeclared = true;));
    }
    statements
}

fn name_of(ident: &Ident, inputs: &[Input<'_>]) -> String {
    inputs.iter().find(|input| input.ident == ident).map_or_else(|| ident.to_string(), |input| input.name.clone())
}

impl Input<'_> {
    /// The expression of the `InputDefinition`.
    fn definition(&self) -> Result<TokenStream> {
        let Self { ty, name, attributes, tooltip, .. } = self;
        let mut statements = TokenStream::new();
        if let Some(input_type) = &attributes.input_type {
            statements.extend(quote!(input.input_type = #input_type.to_owned();));
        }
        if attributes.optional.is_some() {
            statements.extend(quote!(input.section = ::vivarium_node::definition::Section::Optional;));
        }
        if let Some(hidden) = &attributes.hidden {
            statements.extend(quote! {
                input.section = ::vivarium_node::definition::Section::Hidden;
                input.input_type = #hidden.to_owned();
            });
        }
        if !attributes.choices.is_empty() {
            let choices = &attributes.choices;
            statements.extend(quote! {
                input.input_type = "COMBO".to_owned();
                input.choices = ::std::vec![#(#choices.into()),*];
            });
        }
        if let Some(source) = attributes.choices_from()? {
            statements.extend(quote! {
                input.input_type = "COMBO".to_owned();
                input.choices_from = ::core::option::Option::Some(#source);
            });
        }
        statements.extend(attributes.options.iter().map(|option| option_statement(option, ty)));
        if !tooltip.is_empty() && attributes.hidden.is_none() {
            statements.extend(quote!(::vivarium_node::__private::option(&mut input, "tooltip", #tooltip);));
        }
        Ok(quote_spanned! {ty.span()=> {
            #[allow(unused_mut)]
            let mut input = ::vivarium_node::__private::input::<#ty>(#name);
            if <#ty as ::vivarium_node::input::Input>::LAZY {
                ::vivarium_node::__private::option(&mut input, "lazy", true);
            }
            #statements
            input
        }})
    }

    /// The initialiser of the field.
    fn read(&self) -> TokenStream {
        let Self { ident, ty, name, attributes, .. } = self;
        if attributes.rest {
            return quote!(#ident: inputs.take_rest());
        }
        match attributes.default_value() {
            Some(default) if attributes.optional.is_some() => quote! {
                #ident: {
                    let default: ::vivarium_node::__private::DefaultOf<#ty> = #default;
                    inputs.take_or(#name, default)?
                }
            },
            _ => quote!(#ident: inputs.take(#name)?),
        }
    }
}

fn option_statement(option: &InputOption, ty: &Type) -> TokenStream {
    let InputOption { key, value, span } = option;
    match value {
        OptionValue::Default(value) => quote_spanned! {*span=> {
            let value: ::vivarium_node::__private::DefaultOf<#ty> = #value;
            ::vivarium_node::__private::option(&mut input, #key, value);
        }},
        OptionValue::Bound(value) => quote_spanned! {*span=> {
            let value: ::vivarium_node::__private::BoundOf<#ty> = #value;
            ::vivarium_node::__private::option(&mut input, #key, value);
        }},
        OptionValue::Any(value) => quote_spanned! {*span=>
            ::vivarium_node::__private::option(&mut input, #key, #value);
        },
        OptionValue::True => quote_spanned! {*span=>
            ::vivarium_node::__private::option(&mut input, #key, true);
        },
    }
}

/// Hooks that the attribute does not announce get an empty implementation. An author who writes one and forgets to
/// announce it so gets a conflict instead of a hook that nobody calls.
fn unused_hooks(ident: &Ident, attributes: &NodeAttributes) -> TokenStream {
    let mut hooks = TokenStream::new();
    if !attributes.validates() {
        hooks.extend(quote! {
            #[automatically_derived]
            impl ::vivarium_node::Validate for #ident {
                fn validate(_: &::vivarium_node::Constants)
                    -> ::vivarium_node::Result<::std::vec::Vec<::vivarium_node::Finding>>
                {
                    ::core::result::Result::Ok(::std::vec::Vec::new())
                }
            }
        });
    }
    if !attributes.fingerprint {
        hooks.extend(quote! {
            #[automatically_derived]
            impl ::vivarium_node::Fingerprint for #ident {
                fn fingerprint(_: &::vivarium_node::Constants) -> ::vivarium_node::Result<::vivarium_node::Change> {
                    ::core::result::Result::Ok(::vivarium_node::Change::When(::vivarium_node::Json::Null))
                }
            }
        });
    }
    if !attributes.needed_inputs {
        hooks.extend(quote! {
            #[automatically_derived]
            impl ::vivarium_node::NeededInputs for #ident {
                fn needed_inputs(&self) -> ::vivarium_node::Result<::std::vec::Vec<&'static str>> {
                    ::core::result::Result::Ok(::std::vec::Vec::new())
                }
            }
        });
    }
    hooks
}

/// Hooks that the attribute announces must be there, also when the node is in no pack yet.
fn announced_hooks(ident: &Ident, attributes: &NodeAttributes) -> TokenStream {
    let hooks = [
        (attributes.validates(), quote!(::vivarium_node::Validate)),
        (attributes.fingerprint, quote!(::vivarium_node::Fingerprint)),
        (attributes.needed_inputs, quote!(::vivarium_node::NeededInputs)),
    ];
    let announced = hooks.into_iter().filter(|(announced, _)| *announced).map(|(_, hook)| hook);
    quote_spanned! {ident.span()=>
        #(const _: () = {
            const fn announced<T: #announced>() {}
            announced::<#ident>();
        };)*
    }
}

/// What can be checked only when types are known: constant assertions at the fields.
fn checks(attributes: &NodeAttributes, inputs: &[Input<'_>]) -> Result<TokenStream> {
    let mut checks = TokenStream::new();
    for ident in &attributes.validate {
        if !inputs.iter().any(|input| input.ident == ident) {
            return Err(Error::new_spanned(ident, format!("the node has no input `{ident}`")));
        }
    }
    for input in inputs.iter().filter(|input| !input.attributes.rest && input.attributes.hidden.is_none()) {
        let (ty, name) = (input.ty, &input.name);
        if attributes.input_is_list {
            let message = format!("input `{name}`: with `input_is_list`, every input is a list: make it a `Vec<…>`");
            checks.extend(quote_spanned! {ty.span()=>
                const _: () = ::core::assert!(<#ty as ::vivarium_node::input::Input>::LIST, #message);
            });
        } else {
            let message = format!("input `{name}`: a `Vec` needs `input_is_list` in #[node(…)]");
            checks.extend(quote_spanned! {ty.span()=>
                const _: () = ::core::assert!(!<#ty as ::vivarium_node::input::Input>::LIST, #message);
            });
        }
        if !attributes.needed_inputs {
            let message = format!(
                "input `{name}`: a `Lazy` input needs `needed_inputs` in #[node(…)] and an `impl NeededInputs`"
            );
            checks.extend(quote_spanned! {ty.span()=>
                const _: () = ::core::assert!(!<#ty as ::vivarium_node::input::Input>::LAZY, #message);
            });
        }
    }
    Ok(checks)
}

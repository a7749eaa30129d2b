//! `#[derive(Choice)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result, Variant};

use crate::text;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "the choices of an input are an enum: write `enum … { … }`"));
    };
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&input.ident, "an input with choices needs at least one: add a variant"));
    }
    let name = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let choices = data.variants.iter().map(choice).collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        #[automatically_derived]
        impl ::vivarium_node::Choice for #name {
            const CHOICES: &'static [&'static str] = &[#(#choices),*];
        }

        #[automatically_derived]
        impl ::vivarium_node::ValueType for #name {
            const TYPE: &'static str = "COMBO";
            type Default = &'static str;

            fn describe(input: &mut ::vivarium_node::definition::InputDefinition) {
                input.choices = <Self as ::vivarium_node::Choice>::CHOICES.iter().map(|choice| (*choice).into()).collect();
            }

            fn from_value(value: ::vivarium_node::Value) -> ::vivarium_node::Result<Self> {
                let name = <::std::string::String as ::vivarium_node::ValueType>::from_value(value)?;
                match name.as_str() {
                    #(#choices => Ok(Self::#variants),)*
                    other => Err(::vivarium_node::Error::invalid(::std::format!(
                        "`{other}` is none of {}",
                        <Self as ::vivarium_node::Choice>::CHOICES.join(", ")
                    ))),
                }
            }

            fn into_value(self) -> ::vivarium_node::Result<::vivarium_node::Value> {
                let name = match self {
                    #(Self::#variants => #choices,)*
                };
                Ok(::vivarium_node::Value::String(name.to_owned()))
            }
        }
    })
}

fn choice(variant: &Variant) -> Result<String> {
    if !matches!(variant.fields, Fields::Unit) {
        return Err(Error::new_spanned(variant, "a choice holds no data: write the variant without fields"));
    }
    match variant.attrs.iter().find(|attribute| attribute.path().is_ident("choice")) {
        None => Ok(text::snake_case(&variant.ident.to_string())),
        Some(attribute) => Ok(attribute
            .parse_args::<LitStr>()
            .map_err(|error| Error::new(error.span(), "expected a name: #[choice(\"nearest-exact\")]"))?
            .value()),
    }
}

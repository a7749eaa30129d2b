//! `#[derive(ValueType)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let wanted = "a value with fields is a struct: write `struct … { total: i64, … }`";
    let Data::Struct(data) = &input.data else { return Err(Error::new_spanned(name, wanted)) };
    let fields: Vec<_> = match &data.fields {
        Fields::Named(fields) => fields.named.iter().filter_map(|field| field.ident.as_ref()).collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => return Err(Error::new_spanned(fields, wanted)),
    };
    let keys: Vec<_> = fields.iter().map(|field| field.unraw().to_string()).collect();
    let type_name = type_name(input)?;
    Ok(quote! {
        #[automatically_derived]
        impl ::vivarium_node::ValueType for #name {
            const TYPE: &'static str = #type_name;
            type Default = ::vivarium_node::input::NoDefault;

            #[allow(unused_mut, unused_variables)]
            fn from_value(value: ::vivarium_node::Value) -> ::vivarium_node::Result<Self> {
                let mut fields = ::vivarium_node::__private::fields(value, #type_name)?;
                ::core::result::Result::Ok(Self {
                    #(#fields: ::vivarium_node::__private::field(&mut fields, #keys, #type_name)?),*
                })
            }

            fn into_value(self) -> ::vivarium_node::Result<::vivarium_node::Value> {
                ::core::result::Result::Ok(::vivarium_node::__private::dictionary([
                    #((#keys, ::vivarium_node::output::Output::into_slot(self.#fields)?)),*
                ]))
            }
        }
    })
}

fn type_name(input: &DeriveInput) -> Result<LitStr> {
    let attribute = input.attrs.iter().find(|attribute| attribute.path().is_ident("value_type"));
    let wanted = "say what the type is called on links: #[value_type(\"MY_TYPE\")]";
    match attribute {
        None => Err(Error::new_spanned(&input.ident, wanted)),
        Some(attribute) => attribute.parse_args().map_err(|error| Error::new(error.span(), wanted)),
    }
}

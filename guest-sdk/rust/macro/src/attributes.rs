//! What may stand in `#[node(…)]` and `#[input(…)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, Ident, LitStr, Result, Token};

/// `#[node(…)]`
#[derive(Default)]
pub(crate) struct NodeAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) display_name: Option<LitStr>,
    pub(crate) category: Option<LitStr>,
    pub(crate) output_names: Vec<LitStr>,
    pub(crate) output_types: Vec<LitStr>,
    pub(crate) output_tooltips: Vec<LitStr>,
    /// Boolean fields of the definition, to be set to true.
    pub(crate) flags: Vec<Ident>,
    pub(crate) input_is_list: bool,
    pub(crate) validate: Vec<Ident>,
    pub(crate) validate_all: bool,
    pub(crate) validate_types: bool,
    pub(crate) fingerprint: bool,
    pub(crate) needed_inputs: bool,
}

const NODE_KEYS: &str = "category, name, display_name, output_names, output_types, output_tooltips, output_node, \
     input_is_list, not_idempotent, deprecated, experimental, asynchronous, validate, validate_all, validate_types, \
     fingerprint, needed_inputs";

impl NodeAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("node")) {
            attribute.parse_nested_meta(|meta| parsed.one(&meta))?;
        }
        Ok(parsed)
    }

    fn one(&mut self, meta: &ParseNestedMeta) -> Result<()> {
        let key = key(meta)?;
        match key.to_string().as_str() {
            "name" => self.name = Some(text(meta)?),
            "display_name" => self.display_name = Some(text(meta)?),
            "category" => self.category = Some(text(meta)?),
            "output_names" => self.output_names = list(meta)?,
            "output_types" => self.output_types = list(meta)?,
            "output_tooltips" => self.output_tooltips = list(meta)?,
            "input_is_list" => {
                self.input_is_list = true;
                self.flags.push(key);
            }
            "output_node" | "not_idempotent" | "deprecated" | "experimental" | "asynchronous" => self.flags.push(key),
            "validate" => {
                self.validate = list(meta).map_err(|error| {
                    Error::new(error.span(), "name the inputs that it checks: validate(image), or write validate_all")
                })?
            }
            "validate_all" => self.validate_all = true,
            "validate_types" => self.validate_types = true,
            "fingerprint" => self.fingerprint = true,
            "needed_inputs" => self.needed_inputs = true,
            other => return Err(meta.error(format!("unknown key `{other}`; a node has {NODE_KEYS}"))),
        }
        Ok(())
    }

    pub(crate) fn validates(&self) -> bool {
        !self.validate.is_empty() || self.validate_all || self.validate_types
    }
}

/// One of ComfyUI's options, with the Rust expression of its value.
pub(crate) struct InputOption {
    pub(crate) key: String,
    pub(crate) value: OptionValue,
    pub(crate) span: Span,
}

/// How an option's value is checked.
pub(crate) enum OptionValue {
    /// Of the type that the field's type takes as a default.
    Default(Expr),
    /// Of the number type of the field.
    Bound(Expr),
    /// Anything that turns into JSON.
    Any(Expr),
    True,
}

/// `#[input(…)]`
#[derive(Default)]
pub(crate) struct InputAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) input_type: Option<LitStr>,
    pub(crate) hidden: Option<LitStr>,
    pub(crate) choices: Vec<LitStr>,
    pub(crate) choices_from: Option<LitStr>,
    pub(crate) optional: Option<Span>,
    pub(crate) rest: bool,
    pub(crate) options: Vec<InputOption>,
}

const INPUT_KEYS: &str = "default, min, max, step, round, display, multiline, dynamic_prompts, placeholder, \
     force_input, raw_link, image_upload, control_after_generate, label_on, label_off, advanced, socketless, option, \
     name, type, optional, hidden, choices, choices_from, rest";

impl InputAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("input")) {
            attribute.parse_nested_meta(|meta| parsed.one(&meta))?;
        }
        parsed.check()?;
        Ok(parsed)
    }

    fn one(&mut self, meta: &ParseNestedMeta) -> Result<()> {
        let key = key(meta)?;
        let name = key.to_string();
        let value = match name.as_str() {
            "name" => return set(&mut self.name, text(meta)?),
            "type" => return set(&mut self.input_type, text(meta)?),
            "hidden" => return set(&mut self.hidden, text(meta)?),
            "choices_from" => return set(&mut self.choices_from, text(meta)?),
            "optional" => return set(&mut self.optional, key.span()),
            "choices" => {
                self.choices = list(meta)?;
                return Ok(());
            }
            "rest" => {
                self.rest = true;
                return Ok(());
            }
            "option" => return self.other_option(meta),
            "default" => OptionValue::Default(meta.value()?.parse()?),
            "min" | "max" | "step" => OptionValue::Bound(meta.value()?.parse()?),
            "round" | "display" | "placeholder" | "label_on" | "label_off" => OptionValue::Any(meta.value()?.parse()?),
            "multiline"
            | "dynamic_prompts"
            | "force_input"
            | "raw_link"
            | "image_upload"
            | "control_after_generate"
            | "advanced"
            | "socketless" => OptionValue::True,
            "lazy" => return Err(meta.error("a lazy input is a field of type `Lazy<T>`")),
            "tooltip" => return Err(meta.error("the tooltip is the field's doc comment: write `/// …` above it")),
            other => return Err(meta.error(format!("unknown key `{other}`; an input has {INPUT_KEYS}"))),
        };
        self.options.push(InputOption { key: comfy_key(&name), value, span: key.span() });
        Ok(())
    }

    fn other_option(&mut self, meta: &ParseNestedMeta) -> Result<()> {
        let content;
        syn::parenthesized!(content in meta.input);
        let key: LitStr = content.parse()?;
        content.parse::<Token![,]>()?;
        let value = OptionValue::Any(content.parse()?);
        self.options.push(InputOption { span: key.span(), key: key.value(), value });
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let (Some(span), None) = (self.optional, self.default_value()) {
            let message = "what is the value when it is left out? Add `default = …`, or make the field an `Option`";
            return Err(Error::new(span, message));
        }
        let known = ["PROMPT", "DYNPROMPT", "EXTRA_PNGINFO", "UNIQUE_ID", "*"];
        if let Some(hidden) = self.hidden.as_ref().filter(|hidden| !known.contains(&hidden.value().as_str())) {
            let message = "expected PROMPT, DYNPROMPT, EXTRA_PNGINFO, UNIQUE_ID, or * for what an expansion sets";
            return Err(Error::new_spanned(hidden, message));
        }
        Ok(())
    }

    pub(crate) fn default_value(&self) -> Option<&Expr> {
        self.options.iter().find_map(|option| match &option.value {
            OptionValue::Default(value) => Some(value),
            _ => None,
        })
    }

    /// The expression of type `Option<ChoicesFrom>`.
    pub(crate) fn choices_from(&self) -> Result<Option<TokenStream>> {
        let Some(source) = &self.choices_from else { return Ok(None) };
        let text = source.value();
        match (text.as_str(), text.strip_prefix("models/")) {
            ("input_images", _) => Ok(Some(quote!(::vivarium_node::definition::ChoicesFrom::InputImages))),
            (_, Some(folder)) if !folder.is_empty() => {
                Ok(Some(quote!(::vivarium_node::definition::ChoicesFrom::Models(#folder.to_owned()))))
            }
            _ => Err(Error::new_spanned(source, "expected \"input_images\" or \"models/<folder>\"")),
        }
    }
}

fn comfy_key(key: &str) -> String {
    match key {
        "dynamic_prompts" => "dynamicPrompts",
        "force_input" => "forceInput",
        "raw_link" => "rawLink",
        key => key,
    }
    .to_owned()
}

fn key(meta: &ParseNestedMeta) -> Result<Ident> {
    meta.path.get_ident().cloned().ok_or_else(|| meta.error("expected one name"))
}

fn text(meta: &ParseNestedMeta) -> Result<LitStr> {
    meta.value()?.parse()
}

fn list<T: syn::parse::Parse + ToTokens>(meta: &ParseNestedMeta) -> Result<Vec<T>> {
    let content;
    syn::parenthesized!(content in meta.input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<()> {
    *place = Some(value);
    Ok(())
}

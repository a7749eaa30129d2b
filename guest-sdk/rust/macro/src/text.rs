//! Doc comments and names.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The doc comment as running text: lines are joined, an empty line starts a new paragraph.
pub(crate) fn documentation(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for line in attributes.iter().filter_map(doc_line) {
        match line.trim() {
            "" if text.is_empty() || text.ends_with('\n') => {}
            "" => text.push('\n'),
            line => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push(' ');
                }
                text.push_str(line);
            }
        }
    }
    text.trim_end().to_owned()
}

fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    if !meta.path.is_ident("doc") {
        return None;
    }
    match &meta.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// `SoftLight` as `soft_light`.
pub(crate) fn snake_case(name: &str) -> String {
    split_words(name).map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

/// `ImageScaleBy` as `Image Scale By`.
pub(crate) fn title(name: &str) -> String {
    split_words(name).collect::<Vec<_>>().join(" ")
}

/// Splits before every upper-case letter that follows a lower-case one or a digit.
fn split_words(name: &str) -> impl Iterator<Item = &str> {
    let bytes = name.as_bytes();
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|&at| at == 0 || bytes[at].is_ascii_uppercase() && !bytes[at - 1].is_ascii_uppercase())
        .collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([bytes.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &name[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(snake_case("SoftLight"), "soft_light");
        assert_eq!(snake_case("Normal"), "normal");
        assert_eq!(title("ImageScaleBy"), "Image Scale By");
        assert_eq!(title("VAEDecode"), "VAEDecode");
    }

    #[test]
    fn doc_comments_become_running_text() {
        let item: syn::DeriveInput = syn::parse_quote! {
            /// Two lines
            /// of one sentence.
            ///
            /// A paragraph.
            struct A;
        };
        assert_eq!(documentation(&item.attrs), "Two lines of one sentence.\nA paragraph.");
    }
}

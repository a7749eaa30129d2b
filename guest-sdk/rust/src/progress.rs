//! The bar beside a running node.

use crate::bindings::vivarium::node::progress as host;
use crate::error::Result;
use crate::media::Image;

/// Shows that `value` of `max` is done.
///
/// # Errors
/// When the prompt was interrupted.
pub fn update(value: f64, max: f64) -> Result<()> {
    Ok(host::update(value, max, None)?)
}

/// The same with a preview: the first image of a batch. Previews that come too fast are dropped.
///
/// # Errors
/// When the prompt was interrupted, or the image is none.
pub fn preview(value: f64, max: f64, image: &Image) -> Result<()> {
    Ok(host::update(value, max, Some(image.at(0).tensor().raw()?))?)
}

/// Shows a text beside the node while it runs, in place of the one before. Longer ones than 4096 bytes are cut.
///
/// # Errors
/// When the prompt was interrupted.
pub fn text(text: impl ToString) -> Result<()> {
    Ok(host::text(&text.to_string())?)
}

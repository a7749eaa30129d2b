//! Nodes that write image files.

use vivarium_node::files::{self, Folder, SaveOptions};
use vivarium_node::prelude::*;
use vivarium_protocol::python_json;

/// Writes images as PNG files into the output folder. The files carry the workflow that made them.
#[derive(Node)]
#[node(category = "image", display_name = "Save Image", output_node)]
pub(crate) struct SaveImage {
    /// What to save.
    images: Image,
    /// How file names begin. It may hold a subfolder, and placeholders such as %date:yyyy-MM-dd% or %width%.
    #[input(default = "ComfyUI")]
    filename_prefix: String,
    #[input(hidden = "PROMPT")]
    prompt: Option<Json>,
    #[input(hidden = "EXTRA_PNGINFO")]
    extra_pnginfo: Option<Json>,
}

impl Run for SaveImage {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let options = SaveOptions {
            folder: Folder::Output,
            filename_prefix: self.filename_prefix,
            compress_level: 4,
            text: metadata(self.prompt.as_ref(), self.extra_pnginfo.as_ref()),
        };
        Ok(Ui::images(&files::save(&self.images, &options)?))
    }
}

/// Shows images without keeping them.
#[derive(Node)]
#[node(category = "image", display_name = "Preview Image", output_node)]
pub(crate) struct PreviewImage {
    images: Image,
    #[input(hidden = "PROMPT")]
    prompt: Option<Json>,
    #[input(hidden = "EXTRA_PNGINFO")]
    extra_pnginfo: Option<Json>,
}

impl Run for PreviewImage {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let letters = letters_for(&[&vivarium_node::context::prompt_id(), &vivarium_node::context::node_id()]);
        let options = SaveOptions {
            folder: Folder::Temp,
            filename_prefix: format!("ComfyUI_temp_{letters}"),
            compress_level: 1,
            text: metadata(self.prompt.as_ref(), self.extra_pnginfo.as_ref()),
        };
        Ok(Ui::images(&files::save(&self.images, &options)?))
    }
}

/// The PNG text chunks from which a workflow can be read back, written as Python writes JSON.
fn metadata(prompt: Option<&Json>, extra_pnginfo: Option<&Json>) -> Vec<(String, String)> {
    let prompt = prompt.map(|prompt| ("prompt".to_owned(), python_json::to_string(prompt)));
    let extra = extra_pnginfo.and_then(Json::as_object).into_iter().flatten();
    prompt.into_iter().chain(extra.map(|(key, value)| (key.clone(), python_json::to_string(value)))).collect()
}

/// Five letters that look random and differ from node to node: a guest has no randomness of its own.
fn letters_for(parts: &[&str]) -> String {
    // FNV-1a, whose upper bits are the mixed ones.
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut rest = hash >> 16;
    let letter = |_| {
        let letter = b'a' + (rest % 26) as u8;
        rest /= 26;
        char::from(letter)
    };
    (0..5).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_is_the_prompt_and_every_extra_key() {
        let prompt = serde_json::json!({"1": {"class_type": "X", "inputs": {"text": "ü"}}});
        let extra = serde_json::json!({"workflow": {"nodes": []}});
        let expected = [
            ("prompt".to_owned(), r#"{"1": {"class_type": "X", "inputs": {"text": "\u00fc"}}}"#.to_owned()),
            ("workflow".to_owned(), r#"{"nodes": []}"#.to_owned()),
        ];
        assert_eq!(metadata(Some(&prompt), Some(&extra)), expected);
        assert!(metadata(None, Some(&Json::Null)).is_empty());
    }

    #[test]
    fn preview_names_are_five_letters_that_differ_between_nodes() {
        let name = letters_for(&["prompt", "1"]);
        assert!(name.len() == 5 && name.bytes().all(|letter| letter.is_ascii_lowercase()));
        assert_ne!(name, letters_for(&["prompt", "2"]));
        assert_ne!(letters_for(&["a", "bc"]), letters_for(&["ab", "c"]));
    }
}

//! The prompts: one colour, inverted, previewed.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// A different colour at each call, from a start that differs between runs, so that no earlier result can be reused.
pub(crate) struct Colours(u32);

impl Colours {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.subsec_nanos() % (1 << 24))
    }

    /// The next colour.
    pub(crate) fn take(&mut self) -> u32 {
        // Odd, hence every colour comes before one comes again.
        self.0 = (self.0 + 7919) % (1 << 24);
        self.0
    }
}

/// The body of a `POST /prompt`: EmptyImage of `size` × `size` → `inverts` times ImageInvert → PreviewImage.
pub(crate) fn request(colours: &mut Colours, size: u32, inverts: usize, client_id: Option<&str>) -> Vec<u8> {
    let empty = json!({"width": size, "height": size, "batch_size": 1, "color": colours.take()});
    let mut prompt = Map::new();
    prompt.insert("1".to_owned(), node("EmptyImage", empty));
    for number in 2..inverts + 2 {
        prompt.insert(number.to_string(), node("ImageInvert", json!({"image": [(number - 1).to_string(), 0]})));
    }
    prompt.insert((inverts + 2).to_string(), node("PreviewImage", json!({"images": [(inverts + 1).to_string(), 0]})));
    let mut request = json!({"prompt": prompt});
    if let Some(client_id) = client_id {
        request["client_id"] = client_id.into();
    }
    request.to_string().into_bytes()
}

/// The same with a prompt id.
pub(crate) fn request_named(colours: &mut Colours, prompt_id: &str, client_id: Option<&str>) -> Vec<u8> {
    let body = request(colours, 64, 1, client_id);
    // The body is an object of our own making.
    [format!("{{\"prompt_id\":{},", Value::from(prompt_id)).as_bytes(), &body[1..]].concat()
}

/// A node of a prompt.
pub(crate) fn node(class: &str, inputs: Value) -> Value {
    json!({"class_type": class, "inputs": inputs})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_chain_leads_from_the_colour_to_the_preview_and_no_colour_comes_twice() {
        let mut colours = Colours::new();
        let request: Value = serde_json::from_slice(&request(&mut colours, 8, 3, Some("me"))).unwrap();
        let prompt = request["prompt"].as_object().unwrap();
        assert_eq!(prompt.len(), 5);
        assert_eq!(request["prompt"]["2"]["inputs"]["image"], json!(["1", 0]));
        assert_eq!(request["prompt"]["5"]["inputs"]["images"], json!(["4", 0]));
        assert_eq!(request["client_id"], "me");
        let taken: std::collections::HashSet<u32> = (0..10_000).map(|_| colours.take()).collect();
        assert_eq!(taken.len(), 10_000);
    }
}

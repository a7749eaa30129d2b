//! The pack as clients see it. A workflow made for ComfyUI names these classes, inputs and choices.

use vivarium_node::definition::{InputDefinition, NodeDefinition, Section};

const EXPECTED: &str = r#"
SaveImage(images: IMAGE, filename_prefix: STRING {"default":"ComfyUI"}, prompt: hidden PROMPT, extra_pnginfo: hidden EXTRA_PNGINFO) output
PreviewImage(images: IMAGE, prompt: hidden PROMPT, extra_pnginfo: hidden EXTRA_PNGINFO) output
LoadImage(image: COMBO {"image_upload":true}) -> IMAGE, MASK
LoadImageMask(image: COMBO {"image_upload":true}, channel: alpha|red|green|blue) -> MASK
ImageScale(image: IMAGE, upscale_method: nearest-exact|bilinear|area|bicubic|lanczos, width: INT {"default":512,"min":0,"max":16384,"step":1}, height: INT {"default":512,"min":0,"max":16384,"step":1}, crop: disabled|center) -> IMAGE
ImageScaleBy(image: IMAGE, upscale_method: nearest-exact|bilinear|area|bicubic|lanczos, scale_by: FLOAT {"default":1.0,"min":0.01,"max":8.0,"step":0.01}) -> IMAGE
ImageInvert(image: IMAGE) -> IMAGE
ImageBatch(image1: IMAGE, image2: IMAGE) -> IMAGE
EmptyImage(width: INT {"default":512,"min":1,"max":16384,"step":1}, height: INT {"default":512,"min":1,"max":16384,"step":1}, batch_size: INT {"default":1,"min":1,"max":4096}, color: INT {"default":0,"min":0,"max":16777215,"step":1,"display":"color"}) -> IMAGE
ImageCompositeMasked(destination: IMAGE, source: IMAGE, x: INT {"default":0,"min":0,"max":16384,"step":1}, y: INT {"default":0,"min":0,"max":16384,"step":1}, resize_source: BOOLEAN {"default":false}, mask: optional MASK) -> IMAGE
ImageBlend(image1: IMAGE, image2: IMAGE, blend_factor: FLOAT {"default":0.5,"min":0.0,"max":1.0,"step":0.01}, blend_mode: normal|multiply|screen|overlay|soft_light|difference) -> IMAGE
ImageBlur(image: IMAGE, blur_radius: INT {"default":1,"min":1,"max":31,"step":1}, sigma: FLOAT {"default":1.0,"min":0.1,"max":10.0,"step":0.1}) -> IMAGE
ImageSharpen(image: IMAGE, sharpen_radius: INT {"default":1,"min":1,"max":31,"step":1}, sigma: FLOAT {"default":1.0,"min":0.1,"max":10.0,"step":0.01}, alpha: FLOAT {"default":1.0,"min":0.0,"max":5.0,"step":0.01}) -> IMAGE
ImageCrop(image: IMAGE, width: INT {"default":512,"min":1,"max":16384,"step":1}, height: INT {"default":512,"min":1,"max":16384,"step":1}, x: INT {"default":0,"min":0,"max":16384,"step":1}, y: INT {"default":0,"min":0,"max":16384,"step":1}) -> IMAGE
RebatchImages(images: IMAGE, batch_size: INT {"default":1,"min":1,"max":4096}) -> IMAGE
"#;

#[test]
fn classes_inputs_and_outputs_are_those_of_comfyui() {
    let definition = crate::PACK.definition();
    assert_eq!(definition.check(), Ok(()));
    for (node, expected) in definition.nodes.iter().zip(EXPECTED.trim().lines()) {
        assert_eq!(signature(node), expected);
    }
    assert_eq!(definition.nodes.len(), EXPECTED.trim().lines().count());
}

#[test]
fn files_are_checked_by_the_node_and_nothing_else_is() {
    for class in ["LoadImage", "LoadImageMask"] {
        let definition = crate::PACK.definition();
        let node = definition.nodes.iter().find(|node| node.class_type == class);
        let validator = node.and_then(|node| node.validator.as_ref());
        assert_eq!(validator.map(|validator| validator.inputs.as_slice()), Some(["image".to_owned()].as_slice()));
        assert!(node.is_some_and(|node| node.has_fingerprint));
    }
}

fn signature(node: &NodeDefinition) -> String {
    let inputs = node.inputs.iter().map(input).collect::<Vec<_>>().join(", ");
    let outputs = node.outputs.iter().map(|output| output.output_type.as_str()).collect::<Vec<_>>().join(", ");
    let arrow = if outputs.is_empty() { "" } else { " -> " };
    let kind = if node.output_node { " output" } else { "" };
    format!("{}({inputs}){arrow}{outputs}{kind}", node.class_type)
}

fn input(input: &InputDefinition) -> String {
    let section = match input.section {
        Section::Required => "",
        Section::Optional => "optional ",
        Section::Hidden => "hidden ",
    };
    let choices = input.choices.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join("|");
    let input_type = if choices.is_empty() { &input.input_type } else { &choices };
    let mut options = input.options.clone();
    options.shift_remove("tooltip");
    let options = if options.is_empty() { String::new() } else { format!(" {}", serde_json::Value::from(options)) };
    format!("{}: {section}{input_type}{options}", input.name)
}

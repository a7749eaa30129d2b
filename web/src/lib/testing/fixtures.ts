/** Definitions in the server's shape that several unit tests share. */
import type { Json, NodeInfo, ObjectInfo } from "../types";

type Inputs = Record<string, Json>;

function node(name: string, required: Inputs, output: string[], optional: Inputs = {}): NodeInfo {
  return {
    input: { required, optional },
    input_order: { required: Object.keys(required), optional: Object.keys(optional) },
    output,
    output_name: output,
    name,
    display_name: name,
    output_node: output.length === 0,
  };
}

export const OBJECT_INFO: ObjectInfo = {
  LoadImage: node("LoadImage", { image: [["a.png", "b.png"], { image_upload: true }] }, ["IMAGE", "MASK"]),
  LoadImageMask: node("LoadImageMask", { image: [["a.png"], { image_upload: true }], channel: [["alpha", "red"]] }, ["MASK"]),
  ImageScale: node(
    "ImageScale",
    { image: ["IMAGE"], upscale_method: [["nearest-exact", "lanczos"]], width: ["INT", { default: 512 }], height: ["INT", { default: 512 }], crop: [["disabled", "center"]] },
    ["IMAGE"],
  ),
  ImageSharpen: node(
    "ImageSharpen",
    { image: ["IMAGE"], sharpen_radius: ["INT", { default: 1 }], sigma: ["FLOAT", { default: 1 }], alpha: ["FLOAT", { default: 1 }] },
    ["IMAGE"],
  ),
  EmptyImage: node(
    "EmptyImage",
    { width: ["INT", { default: 512 }], height: ["INT", { default: 512 }], batch_size: ["INT", { default: 1 }], color: ["INT", { default: 0, display: "color" }] },
    ["IMAGE"],
  ),
  ImageCompositeMasked: node(
    "ImageCompositeMasked",
    { destination: ["IMAGE"], source: ["IMAGE"], x: ["INT", { default: 0 }], y: ["INT", { default: 0 }], resize_source: ["BOOLEAN", { default: false }] },
    ["IMAGE"],
    { mask: ["MASK"] },
  ),
  ImageToMask: node("ImageToMask", { image: ["IMAGE"], channel: [["red", "green", "blue", "alpha"]] }, ["MASK"]),
  ImageBlur: node("ImageBlur", { image: ["IMAGE"], blur_radius: ["INT", { default: 1, min: 1, max: 31 }], sigma: ["FLOAT", { default: 1, min: 0.1, max: 10 }] }, ["IMAGE"]),
  ImageBlend: node(
    "ImageBlend",
    { image1: ["IMAGE"], image2: ["IMAGE"], blend_factor: ["FLOAT", { default: 0.5 }], blend_mode: [["normal", "screen"]] },
    ["IMAGE"],
  ),
  SaveImage: node("SaveImage", { images: ["IMAGE"], filename_prefix: ["STRING", { default: "ComfyUI" }] }, []),
  Sampler: node(
    "Sampler",
    {
      model: ["MODEL"],
      seed: ["INT", { default: 0, min: 0, max: 18446744073709551615n, control_after_generate: true }],
      steps: ["INT", { default: 20, min: 1, max: 100 }],
      name: [["euler", "fixed"]],
    },
    ["LATENT"],
    { note: ["STRING", { multiline: true }] },
  ),
  Prompt: node("Prompt", { text: ["STRING", { multiline: true, dynamicPrompts: true }], clip: ["CLIP"] }, ["CONDITIONING"]),
};

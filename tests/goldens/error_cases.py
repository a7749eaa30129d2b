"""Prompts that a server must refuse, or accept in part. `error_cases()` gives `{name: request body}`."""


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def solid(**changes):
    return node("EmptyImage", **{"width": 8, "height": 8, "batch_size": 1, "color": 0, **changes})


def save(image, **changes):
    return node("SaveImage", images=image, **{"filename_prefix": "error", **changes})


def saved(one, two=None):
    """Node 1, saved by node 9; optionally with node 2 between."""
    prompt = {"1": one}
    if two:
        prompt["2"] = two
    prompt["9"] = save(["2" if two else "1", 0])
    return prompt


def error_cases():
    blend = {"image1": ["1", 0], "image2": ["1", 0], "blend_factor": 0.5, "blend_mode": "normal"}
    scale = {"image": ["1", 0], "upscale_method": "area", "width": 4, "height": 4, "crop": "disabled"}
    prompts = {
        "empty_prompt": {},
        "unknown_class": saved(node("NoSuchNode", a=1)),
        "unknown_class_unused": {**saved(solid()), "5": node("NoSuchNode")},
        "missing_class_type": {"1": {"inputs": {}}, "9": save(["1", 0])},
        "no_outputs": {"1": solid()},
        "missing_input": saved(solid(), node("ImageInvert")),
        "missing_input_on_output": {"1": solid(), "9": node("SaveImage", filename_prefix="x")},
        "two_missing_inputs": saved(solid(), node("ImageScale", image=["1", 0], upscale_method="area", width=4)),
        "missing_inputs_key": {"1": {"class_type": "EmptyImage"}, "9": save(["1", 0])},
        "link_to_nowhere": {"9": save(["77", 0])},
        "link_to_nowhere_inside": saved(solid(), node("ImageInvert", image=["77", 0])),
        "link_slot_too_high": saved(solid(), node("ImageInvert", image=["1", 5])),
        "link_slot_negative": saved(solid(), node("ImageInvert", image=["1", -1])),
        "link_slot_text": saved(solid(), node("ImageInvert", image=["1", "0"])),
        "link_slot_float": saved(solid(), node("ImageInvert", image=["1", 0.5])),
        "link_node_number": saved(solid(), node("ImageInvert", image=[1, 0])),
        "link_length_1": saved(solid(), node("ImageInvert", image=["1"])),
        "link_length_3": saved(solid(), node("ImageInvert", image=["1", 0, 0])),
        "link_wrong_type": saved(solid(), node("InvertMask", mask=["1", 0])),
        "link_wrong_type_to_output": {
            "1": solid(), "2": node("ImageToMask", image=["1", 0], channel="red"), "9": save(["2", 0]),
        },
        "link_into_widget": saved(solid(width=["2", 0]), node("ImageInvert", image=["1", 0])),
        "link_to_output_node": {"1": solid(), "2": save(["1", 0]), "9": save(["2", 0])},
        "value_below_min": saved(solid(width=0)),
        "value_above_max": saved(solid(width=20000)),
        "float_above_max": saved(solid(), node("ImageBlend", **{**blend, "blend_factor": 1.5})),
        "float_below_min": saved(solid(), node("ImageBlur", image=["1", 0], blur_radius=1, sigma=0.05)),
        "several_bad_values": saved(solid(width=0, height=99999, batch_size="x", color=-1)),
        "value_not_in_list": saved(solid(), node("ImageScale", **{**scale, "upscale_method": "cubic"})),
        "value_not_in_list_number": saved(solid(), node("ImageScale", **{**scale, "crop": 3})),
        "value_not_in_list_new_style_class": saved(solid(), node("ImageBlend", **{**blend, "blend_mode": "dissolve"})),
        "list_as_value": saved(solid(), node("ImageScale", **{**scale, "crop": {"__value__": ["center"]}})),
        "int_from_word": saved(solid(width="wide")),
        "int_from_decimal_text": saved(solid(width="8.5")),
        "int_from_null": saved(solid(width=None)),
        "int_from_object": saved(solid(width={"a": 1})),
        "float_from_word": saved(solid(), node("ImageBlur", image=["1", 0], blur_radius=1, sigma="soft")),
        "cycle": {"1": node("ImageInvert", image=["2", 0]), "2": node("ImageInvert", image=["1", 0]),
                  "9": save(["1", 0])},
        "cycle_of_itself": {"1": node("ImageInvert", image=["1", 0]), "9": save(["1", 0])},
        "one_output_bad_same_chain": {"1": solid(), "8": save(["1", 0]), "9": save(["77", 0])},
        "one_output_bad": {"1": solid(), "2": solid(width=0), "8": save(["1", 0]), "9": save(["2", 0])},
        "two_outputs_bad": {"1": solid(width=0), "8": save(["1", 0]), "9": save(["1", 0])},
        "load_missing_file": saved(node("LoadImage", image="no_such_file.png")),
        "load_missing_file_in_output": saved(node("LoadImage", image="no_such_file.png [output]")),
        "load_mask_missing_file_bad_channel": saved(
            node("LoadImageMask", image="no_such_file.png", channel="cyan"), node("MaskToImage", mask=["1", 0])),
    }
    requests = {name: {"prompt": prompt} for name, prompt in prompts.items()}
    good = saved(solid(color=77))
    requests["no_prompt"] = {"client_id": "golden"}
    requests["targets_empty"] = {"prompt": good, "partial_execution_targets": []}
    requests["targets_unknown"] = {"prompt": good, "partial_execution_targets": ["77"]}
    requests["targets_not_an_output"] = {"prompt": good, "partial_execution_targets": ["1"]}
    requests["targets_one_of_two"] = {
        "prompt": {"1": solid(), "8": save(["1", 0]), "9": save(["77", 0])}, "partial_execution_targets": ["8"],
    }
    return requests


def coerced_prompts():
    """Accepted prompts whose values the server converts: `{name: prompt}`; what it made of them is recorded."""
    return {
        "int_from_text": saved(solid(width="8", height=True, batch_size=1.9)),
        "float_from_text": saved(solid(), node("ImageBlur", image=["1", 0], blur_radius="2", sigma="1.5")),
        "bool_from_text": {
            "1": solid(), "2": node("ImageCompositeMasked", destination=["1", 0], source=["1", 0], x=0, y="0",
                                    resize_source="false"), "9": save(["2", 0]),
        },
        "string_from_number": {"1": solid(), "9": save(["1", 0], filename_prefix=12.0)},
        "wrapped_value": saved(solid(width={"__value__": 8})),
        "extra_inputs_are_kept": saved(solid(unknown="kept", another=[1, 2, 3])),
        "other_keys_are_kept": {"1": {**solid(), "_meta": {"title": "Blank"}}, "9": save(["1", 0])},
    }

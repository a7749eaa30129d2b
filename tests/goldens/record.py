#!/usr/bin/env python3
"""Records the goldens from a running ComfyUI: what it draws, refuses, describes and announces.

    python record.py --url http://127.0.0.1:8288 [images] [errors] [object_info] [transcripts]

The server must be fresh: an empty output folder, and no files in its input folder but ours (see README.md).
Needs only the package `websocket-client`. Everything that differs from run to run (ids, times, random
letters) is replaced by a name in angle brackets, so a second recording gives the same files.
"""

import argparse
import json
import re
import shutil
import struct
import zlib
from pathlib import Path

from cases import QUIRKS, Graph, image_cases
from client import CLIENT_ID, Server
from error_cases import coerced_prompts, error_cases

HERE = Path(__file__).parent
CLASSES = [
    "LoadImage", "LoadImageMask", "EmptyImage", "ImageScale", "ImageScaleBy", "ImageInvert", "ImageBlur",
    "ImageSharpen", "ImageBlend", "ImageCrop", "ImageBatch", "ImageCompositeMasked", "InvertMask", "MaskToImage",
    "ImageToMask", "SaveImage", "PreviewImage",
]
# Levels of 255 by which JPEG decoders differ, mostly in how they enlarge the chroma planes.
JPEG_TOLERANCE = 4
UNORDERED = ("errors", "dependent_outputs", "executed", "current_outputs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("parts", nargs="*", default=[], help="images, errors, object_info, transcripts; default all")
    arguments = parser.parse_args()
    recorders = {
        "images": record_images, "errors": record_errors,
        "object_info": record_object_info, "transcripts": record_transcripts,
    }
    server = Server(arguments.url)
    for path in sorted((HERE / "inputs").iterdir()):
        server.upload_image(path)
    for part in arguments.parts or recorders:
        recorders[part](server)


def fresh_folder(*parts):
    folder = HERE.joinpath(*parts)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


# --- What differs from run to run ---------------------------------------------------------------------------


def normalised(value, prompt_id=None):
    """The value with ids, times, tracebacks, folders of this machine and random letters taken out."""
    text = json.dumps(value)
    if prompt_id:
        text = text.replace(prompt_id, "<prompt_id>")
    text = re.sub(r"_temp_[a-z]{5}_", "_temp_<letters>_", text)
    text = re.sub(r'"(timestamp|create_time)": \d+', r'"\1": 0', text)
    text = re.sub(r"(/[\w.-]+)+/(input|output|temp)/", r"<\2 folder>/", text)
    return tidied(json.loads(text))


def tidied(value, key=None):
    """Tracebacks and tooltips dropped, tensors as text shortened, lists that the server leaves unordered sorted."""
    if key == "traceback":
        return []
    if isinstance(value, dict):
        return {k: tidied(v, k) for k, v in value.items() if k != "tooltip"}
    if isinstance(value, list):
        items = [tidied(v) for v in value]
        return sorted(items, key=json.dumps) if key in UNORDERED else items
    if isinstance(value, str) and value.startswith("tensor("):
        return "<tensor>"
    return value


# --- Images ---------------------------------------------------------------------------------------------------


def record_images(server):
    """cases/<case>/: prompt.json, expected.json (outputs or the run-time error) and expected/<node>_<index>.png."""
    fresh_folder("cases")
    for name, prompt in image_cases().items():
        folder = fresh_folder("cases", name)
        write_json(folder / "prompt.json", prompt)
        entry = server.run(prompt)
        expected = {"outputs": normalised(entry["outputs"]), "status": entry["status"]["status_str"]}
        if ".jpg" in json.dumps(prompt):
            expected["tolerance"] = JPEG_TOLERANCE
        if name in QUIRKS:
            expected["quirk"] = QUIRKS[name]
        error = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
        if error:
            expected["error"] = {k: error[0][k] for k in ("node_id", "node_type", "exception_type")}
            expected["error"]["exception_message"] = normalised(error[0]["exception_message"])
            print(f"{name}: {error[0]['exception_message']!r}")
        write_json(folder / "expected.json", expected)
        for node_id, output in entry["outputs"].items():
            for index, image in enumerate(output["images"]):
                (folder / "expected").mkdir(exist_ok=True)
                path = folder / "expected" / f"{node_id}_{index}.png"
                path.write_bytes(small_png(server.view(image)))


def small_png(data):
    """The same pixels in fewer bytes: text chunks dropped, data compressed harder."""
    chunks, pixels, at = [], b"", 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IDAT":
            pixels += body
        elif kind == b"IEND":
            chunks += [(b"IDAT", zlib.compress(zlib.decompress(pixels), 9)), (kind, body)]
        elif kind != b"tEXt":
            chunks.append((kind, body))
    packed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return data[:8] + b"".join(packed)


# --- Refused and converted prompts ------------------------------------------------------------------------------


def record_errors(server):
    """errors/<case>/: request.json, status, response.json; and coerced/<case>.json for accepted conversions."""
    fresh_folder("errors")
    for name, request in error_cases().items():
        folder = fresh_folder("errors", name)
        write_json(folder / "request.json", request)
        status, answer = server.post_json("/prompt", request)
        prompt_id = answer.get("prompt_id") if isinstance(answer, dict) else None
        if prompt_id:
            server.wait_for(prompt_id)
            answer["number"] = "<number>"
        (folder / "status").write_text(f"{status}\n")
        write_json(folder / "response.json", normalised(answer, prompt_id))
    fresh_folder("coerced")
    for name, prompt in coerced_prompts().items():
        entry = server.run(prompt)
        write_json(HERE / "coerced" / f"{name}.json", {"sent": prompt, "kept": entry["prompt"][2]})


# --- Descriptions of the nodes ----------------------------------------------------------------------------------


def record_object_info(server):
    """object_info/<Class>.json: names, types, defaults, bounds and order; texts written for people are left out."""
    folder = fresh_folder("object_info")
    for name in CLASSES:
        info = server.get_json(f"/object_info/{name}")[name]
        write_json(folder / f"{name}.json", without_texts(info))


def without_texts(info):
    info = {k: v for k, v in info.items() if k not in ("description", "output_tooltips")}
    for section in info["input"].values():
        for name, declared in section.items():
            if not isinstance(declared, list):
                continue
            if len(declared) > 1:
                declared[1].pop("tooltip", None)
            if isinstance(declared[0], list) and "rgb.png" in declared[0]:
                declared[0] = ["<input files>"]
    return info


# --- WebSocket transcripts ------------------------------------------------------------------------------------


def record_transcripts(server):
    """transcripts/<case>/: prompt.json, events.jsonl (after the greeting), history.json."""
    fresh_folder("transcripts")
    for name, prompts, setup in transcript_cases():
        server.post_json("/free", {"free_memory": True})
        server.run({"1": {"class_type": "EmptyImage", "inputs": dict(width=1, height=1, batch_size=1, color=1)},
                    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})
        for prompt in setup:
            server.run(prompt)
        folder = fresh_folder("transcripts", name)
        write_json(folder / "prompt.json", prompts)
        events, prompt_id = follow(server, prompts, interrupt_at="2" if name == "interrupted" else None)
        entry = server.wait_for(prompt_id)
        lines = [json.dumps(without_counters(normalised(event, prompt_id))) for event in events]
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
        write_json(folder / "history.json", without_counters(normalised(entry, prompt_id)))


def without_counters(value):
    """File names with their counter replaced, so that transcripts do not depend on each other's order."""
    return json.loads(re.sub(r"_\d{5}_\.png", "_<counter>_.png", json.dumps(value)))


def follow(server, prompt, interrupt_at):
    """All events of one prompt, from just before it is posted to its closing `executing` with no node."""
    socket = server.connect()
    status, answer = server.post_json("/prompt", {"prompt": prompt, "client_id": CLIENT_ID})
    assert status == 200, answer
    events = []
    while True:
        event = json.loads(socket.recv())
        events.append(event)
        if event["type"] == "executing" and event["data"]["node"] == interrupt_at and interrupt_at:
            server.post_json("/interrupt", {})
        if event["type"] == "executing" and event["data"]["node"] is None:
            socket.close()
            return events, answer["prompt_id"]


def chain(color, *classes, prefix="transcript"):
    """EmptyImage, then the given classes one after another, then SaveImage, with ids "1", "2", …"""
    graph = Graph(prefix)
    image = graph.solid(color, 8, 8)
    for class_type in classes:
        image = graph.add(class_type, image=image)
    graph.save(image)
    return graph.prompt


def transcript_cases():
    """(name, prompt, prompts run before it)"""
    graph = Graph("transcript")
    graph.add("PreviewImage", images=graph.add("ImageInvert", image=graph.load("anim.gif")))
    preview = graph.prompt
    graph = Graph("transcript")
    image = graph.solid(3, 8, 8)
    graph.add("PreviewImage", images=image)
    graph.save(graph.add("ImageInvert", image=image))
    two_outputs = graph.prompt
    graph = Graph("transcript")
    image = graph.solid(4, 8, 8)
    graph.save(graph.add("ImageInvert", image=image))
    graph.save(graph.add("ImageInvert", image=image))
    twins = graph.prompt
    runtime_error = Graph("transcript")
    blurred = runtime_error.add("ImageBlur", image=runtime_error.solid(5, 8, 8), blur_radius=20, sigma=1.0)
    runtime_error.save(blurred)
    constant = {"1": {"class_type": "ImageInvert", "inputs": {"image": "not an image"}},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    channel = Graph("transcript")
    channel.save_mask(channel.add("ImageToMask", image=channel.solid(6, 8, 8), channel="alpha"))
    graph = Graph("transcript")
    graph.save(graph.add("ImageInvert", image=graph.add("ImageBlur", image=graph.solid(7, 1536, 1536),
                                                        blur_radius=31, sigma=1.0)))
    interrupted = graph.prompt
    renamed = {"a" + k: json.loads(re.sub(r'\["(\d+)"', r'["a\1"', json.dumps(v)))
               for k, v in chain(8, "ImageInvert").items()}
    broken = [(f"load_{name}", {"1": {"class_type": "LoadImage", "inputs": {"image": f"{name}.png"}},
                                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}, [])
              for name in ("broken", "not_an_image")]
    return [
        ("image_run", chain(1, "ImageInvert", "ImageInvert"), []),
        ("cached_rerun", chain(2, "ImageInvert"), [chain(2, "ImageInvert")]),
        ("cached_start", chain(9, "ImageInvert", "ImageInvert"), [chain(9, "ImageInvert")]),
        ("cached_under_other_ids", renamed, [chain(8, "ImageInvert")]),
        ("preview_run", preview, []),
        ("two_outputs", two_outputs, []),
        ("twins", twins, []),
        ("runtime_error", runtime_error.prompt, []),
        ("runtime_error_constant", constant, []),
        ("runtime_error_channel", channel.prompt, []),
        ("runtime_error_again", runtime_error.prompt, [runtime_error.prompt]),
        ("interrupted", interrupted, []),
    ] + broken


if __name__ == "__main__":
    main()

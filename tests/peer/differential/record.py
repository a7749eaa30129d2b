"""Runs random prompts on a real ComfyUI and writes down what came of them, one JSON line per case.

    python record.py PATH/TO/ComfyUI 0 300 --out cases.jsonl
    python record.py PATH/TO/ComfyUI 0 300 --cache lru:8 --out lru.jsonl

Run it with the Python of that ComfyUI; it needs websocket-client besides. `tests/differential` runs the same prompts here
and compares. A case after which ComfyUI does not answer any more is left out and reported.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import websocket
from PIL import Image

import graphs

PATIENCE = 20
CACHES = {"classic": [], "lru": ["--cache-lru"], "none": ["--cache-none"]}
# What the prompt before a case is: the classic cache then holds nothing else.
FLUSH = {"flush": {"class_type": "TestOutputNodeWithSocketOutput", "inputs": {"image": ["source", 0], "value": 1.0}},
         "source": {"class_type": "StubConstantImage", "inputs": {"value": 0.125, "height": 1, "width": 1, "batch_size": 1}}}


def parse(text):
    """JSON as Python writes it; what JSON has no number for becomes a string."""
    return json.loads(text, parse_constant=str)


class Peer:
    """A ComfyUI in a base folder of its own, with a listener on its events."""

    def __init__(self, checkout, port, cache):
        self.checkout, self.port, self.cache = pathlib.Path(checkout).resolve(), port, cache
        self.base = tempfile.TemporaryDirectory()
        nodes = pathlib.Path(self.base.name, "custom_nodes")
        shutil.copytree(self.checkout / "tests/execution/testing_nodes/testing-pack", nodes / "testing-pack")
        shutil.copytree(pathlib.Path(__file__).with_name("pinned-order"), nodes / "pinned-order")
        self.process = self.socket = None
        self.start()

    def start(self):
        self.stop()
        command = [sys.executable, "main.py", "--cpu", "--port", str(self.port), "--base-directory", self.base.name, "--disable-api-nodes",
                   "--disable-all-custom-nodes", "--whitelist-custom-nodes", "testing-pack", "pinned-order", *CACHES[self.cache.split(":")[0]], *self.cache.split(":")[1:]]
        log = open(pathlib.Path(self.base.name, "log"), "a")
        self.process = subprocess.Popen(command, cwd=self.checkout, stdout=log, stderr=log)
        for _ in range(600):
            try:
                self.socket = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId=recorder", timeout=PATIENCE)
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit("ComfyUI does not start; see " + log.name)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def http(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def flush(self):
        """Nothing of the case before is in the cache. What /free asks for is done before the next prompt."""
        if self.cache != "classic":
            self.http("/free", {"free_memory": True})
        self.run({"prompt": FLUSH})

    def events_of(self, prompt_id):
        events = []
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):
                continue
            event = parse(message)
            data = event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            events.append(event)
            if event["type"] == "executing" and data["node"] is None:
                return events

    def run(self, body):
        """One step: the answer, and when it was accepted the events and the history."""
        status, answer = self.http("/prompt", {**body, "client_id": "recorder"})
        if status == 500:
            return {"body": body, "status": status}
        answer = parse(answer)
        step = {"body": body, "status": status, "node_errors": node_errors(answer["node_errors"])}
        if status != 200:
            step["error"] = error(answer["error"])
            return step
        events = self.events_of(answer["prompt_id"])
        _, history = self.http(f"/history/{answer['prompt_id']}")
        entry = parse(history)[answer["prompt_id"]]
        names = Names(events)
        step["events"] = reduce_events(events, names)
        step["images"] = {node: [self.picture(image) for image in ui.get("images", [])] for node, ui in entry["outputs"].items() if node in body["prompt"]}
        step["history"] = reduce_history(entry, names)
        return step

    def picture(self, image):
        """Folder and pixels of a saved image; one colour is written as such."""
        _, data = self.http("/view?" + urllib.parse.urlencode(image))
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        colours = picture.getcolors(1)
        pixels = "#%02x%02x%02x" % colours[0][1] if colours else hashlib.sha256(picture.tobytes()).hexdigest()[:16]
        return f"{image['type']}/{image['subfolder']} {picture.width}x{picture.height} {pixels}"


class Names:
    """Posted nodes keep their ids; a node of an expansion is `~` and the node that clients show it at."""

    def __init__(self, events):
        self.display = {}
        for event in events:
            data = event["data"]
            if "display_node" in data:
                self.display[data["node"]] = data["display_node"]
            if event["type"] == "progress_state":
                self.display.update({node: state["display_node_id"] for node, state in data["nodes"].items()})

    def of(self, node):
        display = self.display.get(node, node)
        return node if display == node else f"~{display}"


def error(posted):
    return {"type": posted["type"], "message": posted["message"], "details": sorted(posted["details"].split("\n"))}


def node_errors(posted):
    def one(found):
        kept = {key: value for key, value in found["extra_info"].items() if key not in ("traceback", "input_config")}
        return [found["type"], found["message"], found["details"], kept]

    return {node: {"class": entry["class_type"], "outputs": sorted(set(entry["dependent_outputs"])), "errors": sorted((one(e) for e in entry["errors"]), key=json.dumps)}
            for node, entry in posted.items()}


def scalar(value):
    """A value of `current_inputs`; what is no scalar is only said to be something."""
    if isinstance(value, str) and (value.startswith(("tensor(", "{", "[", "<")) or "\n" in value):
        return "…"
    return value


def reduce_events(events, names):
    reduced, states = [], {}
    for event in events:
        kind, data = event["type"], event["data"]
        if kind == "progress_state":
            for node, state in data["nodes"].items():
                if states.get(node) != state["state"]:
                    states[node] = state["state"]
                    reduced.append([state["state"], names.of(node), state["real_node_id"]])
        elif kind == "executing":
            reduced.append(["end"] if data["node"] is None else ["executing", names.of(data["node"])])
        elif kind == "executed":
            reduced.append(["executed", names.of(data["node"]), None if data["output"] is None else sorted(data["output"])])
        elif kind == "execution_cached":
            reduced.append(["cached", data["nodes"]])
        elif kind in ("execution_start", "execution_success"):
            reduced.append([kind])
        elif kind == "execution_error":
            inputs = data["current_inputs"]
            reduced.append([kind, {
                "node": names.of(data["node_id"]), "class": data["node_type"], "type": data["exception_type"], "message": data["exception_message"],
                "executed": sorted(names.of(node) for node in data["executed"]),
                "inputs": {name: [scalar(value) for value in values] for name, values in inputs.items()} if isinstance(inputs, dict) else inputs,
            }])
        elif kind != "progress":
            reduced.append([kind])
    return reduced


def reduce_history(entry, names):
    prompt = entry["prompt"][2]
    for node in prompt.values():
        node.pop("is_changed", None)
    meta = {names.of(node): {"display": one["display_node"], "real": one["real_node_id"], "parent": one["parent_node"] and names.of(one["parent_node"])} for node, one in entry["meta"].items()}
    return {
        "prompt": prompt, "targets": entry["prompt"][4], "outputs": {names.of(node): sorted(ui) for node, ui in entry["outputs"].items()}, "meta": meta,
        "status": [entry["status"]["status_str"], entry["status"]["completed"]], "messages": [message[0] for message in entry["status"]["messages"]],
    }


def is_key_error(event):
    return event[0] == "execution_error" and event[1]["type"] == "KeyError"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui")
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--out", required=True)
    parser.add_argument("--port", type=int, default=8388)
    parser.add_argument("--cache", default="classic", help="classic, none, or lru:N")
    options = parser.parse_args()
    # An exit, so that ComfyUI is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    peer = Peer(options.comfyui, options.port, options.cache)
    try:
        with open(options.out, "w") as out:
            for seed in range(options.first, options.end):
                profile, bodies = graphs.case(seed)
                try:
                    peer.flush()
                    if options.cache != "classic":
                        bodies.append(bodies[0])  # What is still there of two prompts ago.
                    steps = [peer.run(body) for body in bodies]
                except (websocket.WebSocketException, OSError) as problem:
                    print(f"seed {seed}: ComfyUI does not answer any more: {problem}", flush=True)
                    peer.start()
                    continue
                if options.cache == "none" and any(is_key_error(event) for step in steps for event in step.get("events", [])):
                    continue  # ComfyUI fails at expansions in that mode.
                out.write(json.dumps({"seed": seed, "profile": profile, "cache": options.cache, "steps": steps}, ensure_ascii=False, separators=(",", ":")) + "\n")
                out.flush()
    finally:
        peer.stop()


if __name__ == "__main__":
    main()

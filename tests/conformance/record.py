"""Holds the conversations of `cases/` with a real ComfyUI and keeps what it answered beside each, as `recorded.json`.

    python record.py --command "/path/to/venv/bin/python /path/to/ComfyUI/main.py --cpu" [case ...]

A ComfyUI is started for each conversation with a base folder of its own, since what it answers depends on what it has. The
nodes that only tests use come from `peer_nodes.py`. Needs Pillow; its HTTP is the standard library's.
"""

import argparse
import hashlib
import http.client
import io
import json
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse

from PIL import Image

HERE = pathlib.Path(__file__).parent
INPUTS = HERE.parent / "goldens" / "inputs"

# The headers that clients act on.
HEADERS = ("content-type", "content-range", "allow", "cache-control", "content-encoding", "accept-ranges",
           "access-control-allow-origin", "access-control-allow-methods", "etag", "last-modified")
# Members that differ from run to run.
NUMBERS = {"modified", "created", "timestamp", "create_time", "ram_total", "ram_free", "vram_total", "vram_free",
           "torch_vram_total", "torch_vram_free"}
# Members that hold words of Python's.
WORDS = {"traceback", "exception_message", "exception_type", "current_inputs", "current_outputs", "python_version",
         "pytorch_version", "argv", "os", "comfyui_version", "required_frontend_version", "description", "tooltip", "m", "t"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# Longer answers are kept as their kind.
LONGEST = 20_000


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def flags(settings):
    """The command line that means what a conversation's `server` means."""
    words = []
    if "max_upload_size" in settings:
        words += ["--max-upload-size", str(settings["max_upload_size"] / (1024 * 1024))]
    if "cors_origin" in settings:
        words += ["--enable-cors-header", settings["cors_origin"]]
    if settings.get("compress_responses"):
        words += ["--enable-compress-response-body"]
    if settings.get("multi_user"):
        words += ["--multi-user"]
    return words


class Peer:
    def __init__(self, command, settings):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="peer-"))
        for folder in ("input", "output", "temp", "user", "models", "custom_nodes"):
            (self.base / folder).mkdir()
        shutil.copy(HERE / "peer_nodes.py", self.base / "custom_nodes")
        self.port = free_port()
        words = shlex.split(command) + ["--port", str(self.port), "--base-directory", str(self.base),
                                        "--disable-api-nodes"] + flags(settings)
        program = pathlib.Path(words[1])
        self.process = subprocess.Popen(words, cwd=program.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(6000):
            try:
                self.ask("GET", "/queue", {}, b"")
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the peer does not start")

    def ask(self, method, path, headers, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        try:
            content = response.read()
        except http.client.HTTPException as error:
            content = getattr(error, "partial", b"")
        connection.close()
        return response.status, found, content

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.base)


def form(fields):
    boundary = "vivarium-tests-boundary"
    body = b""
    # The same order as the runner's, which keeps fields sorted as it reads them.
    for name, field in fields.items():
        filename, value = None, field
        if isinstance(field, dict):
            filename = field.get("as", field.get("file", ""))
            value = (INPUTS / field["file"]).read_bytes() if "file" in field else field["text"].encode()
        else:
            value = field.encode()
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def filled(value, kept):
    if isinstance(value, str):
        for name, text in kept.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, list):
        return [filled(item, kept) for item in value]
    if isinstance(value, dict):
        return {filled(key, kept): filled(item, kept) for key, item in value.items()}
    return value


def ask(peer, step, kept):
    method, path = step["ask"].split(" ", 1)
    headers, body = {}, b""
    if "send" in step:
        headers["content-type"] = "application/json"
        body = json.dumps(filled(step["send"], kept)).encode()
    elif "send_text" in step:
        body = filled(step["send_text"], kept).encode()
    elif "send_bytes" in step:
        body = b" " * step["send_bytes"]
    elif "send_hex" in step:
        body = bytes.fromhex(step["send_hex"])
    elif "form" in step:
        headers["content-type"], body = form(step["form"])
    headers |= {name: filled(value, kept) for name, value in step.get("with", {}).items()}
    return peer.ask(method, filled(path, kept), headers, body)


def fits(answer, step, kept):
    """Whether an `until` has come: the status, and for lists and ids in it a rough look at the answer."""
    status, _, content = answer
    if status != step["status"]:
        return False
    pattern = step.get("answer")
    return pattern is None or rough(json.loads(content), filled(pattern, kept))


def rough(value, pattern):
    if isinstance(pattern, dict):
        if any(key in pattern for key in ("<some>", "<each>", "<exact>")):
            return True
        return isinstance(value, dict) and all(key in value and rough(value[key], item) for key, item in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and len(value) == len(pattern) and all(map(rough, value, pattern))
    return isinstance(pattern, str) and pattern.startswith("<") or value == pattern


def without_chance(value, kept, base, key=None):
    if key in NUMBERS:
        return "<number>"
    if key in WORDS:
        return "<any>"
    if isinstance(value, str):
        if str(base) in value:
            return "<any>"
        for name, text in kept.items():
            if len(text) > 3:
                value = value.replace(text, "{" + name + "}")
        if (by_chance := UUID.search(value)) and 0 < by_chance.start() and by_chance.end() == len(value):
            return f"<has {value[:by_chance.start()]}>"
        return "<text>" if UUID.fullmatch(value) or value.startswith("ComfyUI_temp_") else value
    if isinstance(value, list):
        return [without_chance(item, kept, base) for item in value]
    if isinstance(value, dict):
        return {without_chance(name, kept, base): without_chance(item, kept, base, name) for name, item in value.items()}
    return value


def parsed(content):
    """Its value; none for a user's file that is called JSON and is not, and for `null`."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def recorded(answer, kept, base):
    status, headers, content = answer
    found = {name: headers[name] for name in HEADERS if name in headers}
    for name in ("etag", "last-modified"):
        if name in found:
            found[name] = "<text>"
    entry = {"status": status}
    kind = found.get("content-type", "")
    if found:
        entry["headers"] = without_chance(found, kept, base)
    if not content:
        return entry
    if "content-encoding" in found:
        entry["bytes"] = "compressed"
    elif kind.startswith("application/json") and (value := parsed(content)) is not None:
        short = len(content) <= LONGEST
        entry["json"] = without_chance(value, kept, base) if short else "<object>" if isinstance(value, dict) else "<list>"
    elif kind.startswith("image/") and status in (200,):
        try:
            with Image.open(io.BytesIO(content)) as image:
                entry["image"] = {"format": image.format.lower(), "width": image.width, "height": image.height}
        except OSError:
            entry["bytes"] = hashlib.sha256(content).hexdigest()
    elif kind.startswith("text/") and len(content) < LONGEST:
        entry["text"] = without_chance(content.decode(), kept, base)
    else:
        entry["bytes"] = hashlib.sha256(content).hexdigest()
    return entry


def hold(case, command):
    conversation = json.loads((case / "steps.json").read_text())
    peer = Peer(command, conversation.get("server", {}))
    try:
        for name, content in conversation.get("files", {}).items():
            path = peer.base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        for name, content in conversation.get("binary_files", {}).items():
            path = peer.base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(content))
        for name in conversation.get("inputs", []):
            shutil.copy(INPUTS / name, peer.base / "input")
        kept = {"address": f"127.0.0.1:{peer.port}"}
        entries = []
        for step in conversation["steps"]:
            answer = ask(peer, step, kept)
            deadline = time.monotonic() + 20
            while step.get("until") and not fits(answer, step, kept) and time.monotonic() < deadline:
                time.sleep(0.05)
                answer = ask(peer, step, kept)
            entries.append({"ask": step["ask"], **recorded(answer, kept, peer.base)})
            for name, pointer in step.get("keep", {}).items():
                kept[name] = follow(answer[2], pointer)
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        (case / "recorded.json").write_text(f"[\n{lines}\n]\n")
    finally:
        peer.stop()


def follow(content, pointer):
    try:
        value = json.loads(content)
        for part in pointer.split("/")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        return value if isinstance(value, str) else json.dumps(value)
    except (ValueError, KeyError, IndexError, TypeError):
        return "nothing-kept"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", required=True)
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    for case in sorted((HERE / "cases").iterdir()):
        if arguments.cases and case.name not in arguments.cases:
            continue
        if json.loads((case / "steps.json").read_text()).get("not_recorded"):
            continue
        hold(case, arguments.command)
        print(case.name, flush=True)


main()

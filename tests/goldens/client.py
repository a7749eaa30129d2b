"""A small client of the ComfyUI protocol for the recorder: HTTP by the standard library, and a WebSocket."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import websocket  # the package websocket-client

CLIENT_ID = "golden-client"


class Server:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def request(self, method, path, body=None, content_type="application/json"):
        """Status and body; an error status is an answer here, not an exception."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        if body is not None:
            request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get_json(self, path):
        status, body = self.request("GET", path)
        assert status == 200, (path, status, body[:200])
        return json.loads(body)

    def post_json(self, path, value):
        status, body = self.request("POST", path, json.dumps(value).encode())
        return status, json.loads(body) if body.startswith((b"{", b"[")) else body.decode()

    def upload_image(self, path):
        """Uploads a file into the input folder under its own name, replacing an older one."""
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'.encode()]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode() + path.read_bytes() + b"\r\n"
        )
        parts.append(f"--{boundary}--\r\n".encode())
        status, body = self.request("POST", "/upload/image", b"".join(parts), f"multipart/form-data; boundary={boundary}")
        assert status == 200 and json.loads(body)["name"] == path.name, (status, body)

    def run(self, prompt, timeout=120):
        """Queues a prompt and waits for its history entry."""
        status, answer = self.post_json("/prompt", {"prompt": prompt})
        assert status == 200 and not answer["node_errors"], answer
        return self.wait_for(answer["prompt_id"], timeout)

    def wait_for(self, prompt_id, timeout=120):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get_json(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            time.sleep(0.01)
        raise TimeoutError(prompt_id)

    def view(self, image):
        status, body = self.request("GET", "/view?" + urllib.parse.urlencode(image))
        assert status == 200, (image, status)
        return body

    def connect(self):
        """A WebSocket that has already read its greeting (the `status` event with `sid`)."""
        socket = websocket.create_connection(
            self.url.replace("http", "ws", 1) + f"/ws?clientId={CLIENT_ID}", timeout=60
        )
        json.loads(socket.recv())
        return socket

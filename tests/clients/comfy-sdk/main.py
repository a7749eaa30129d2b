"""The official SDK. It speaks the second version of the API, which the official proxy makes of this one."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
os.environ["COMFY_BASE_URL"] = f"http://127.0.0.1:{port}"

from comfy_sdk import Comfy  # noqa: E402

with tempfile.TemporaryDirectory() as state:
    main = "import sys; from comfy_api_proxy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "run", "--comfyui", os.environ["VIVARIUM_URL"], "--port", str(port), "--state-dir", state]
    proxy = subprocess.Popen(command)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        client = Comfy()
        with open(os.environ["WORKFLOW"]) as file:
            graph = json.load(file)
        graph["13"]["inputs"]["filename_prefix"] = "comfy-sdk"
        workflow = client.workflows.from_json(graph)
        workflow.set_input("1", "image", client.assets.from_file(os.environ["PHOTO"]))
        outputs = client.run(workflow).get_outputs("13")
        with open(os.environ["RESULT"], "wb") as file:
            file.write(outputs[0].to_bytes())
    finally:
        proxy.terminate()
        proxy.wait()

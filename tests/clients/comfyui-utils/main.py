"""Queues first and only then opens its WebSocket, so that it may miss every event; then it looks into the history."""

import asyncio
import json
import os
from urllib.parse import urlparse

from comfyui_utils import comfy


class Callbacks(comfy.Callbacks):
    outputs = None

    async def queue_position(self, position):
        pass

    async def in_progress(self, node_id, progress, total):
        pass

    async def completed(self, outputs, cached):
        self.outputs = outputs


async def main():
    with open(os.environ["WORKFLOW"]) as file:
        workflow = json.load(file)
    workflow["13"]["inputs"]["filename_prefix"] = "comfyui-utils"
    api = comfy.ComfyAPI(urlparse(os.environ["VIVARIUM_URL"]).netloc)
    callbacks = Callbacks()
    await api.submit(workflow, callbacks)

    async def save(image):
        with open(os.environ["RESULT"], "wb") as file:
            file.write(image.read())

    await api.fetch(callbacks.outputs["images"][0], save)


asyncio.run(main())

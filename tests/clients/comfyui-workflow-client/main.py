"""Uploads an image that it holds in memory, queues the workflow and polls the history."""

import os
from urllib.parse import urlparse

from comfyuiclient import ComfyUIClient
from PIL import Image

client = ComfyUIClient(urlparse(os.environ["VIVARIUM_URL"]).netloc, os.environ["WORKFLOW"])
client.connect()
client.set_data("Photo", image=Image.open(os.environ["PHOTO"]))
client.set_data("Save the postcard", input_key="filename_prefix", input_value="comfyui-workflow-client")
results = client.generate(["Save the postcard"])
client.close()
results["Save the postcard"].save(os.environ["RESULT"])

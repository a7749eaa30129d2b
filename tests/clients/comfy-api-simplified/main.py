"""Uploads, changes the workflow by the titles of its nodes, queues it and waits on a WebSocket."""

import os

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

api = ComfyApiWrapper(os.environ["VIVARIUM_URL"])
uploaded = api.upload_image(os.environ["PHOTO"])
workflow = ComfyWorkflowWrapper(os.environ["WORKFLOW"])
workflow.set_node_param("Photo", "image", f"{uploaded['subfolder']}/{uploaded['name']}".lstrip("/"))
workflow.set_node_param("Save the postcard", "filename_prefix", "comfy-api-simplified")
images = api.queue_and_wait_images(workflow, "Save the postcard")
(image,) = images.values()
with open(os.environ["RESULT"], "wb") as file:
    file.write(image)

# What else it can ask.
assert api.get_queue()["queue_running"] == []
assert "ImageScale" in api.get_object_info("ImageScale")
assert api.get_system_stats()["devices"]
api.get_embeddings()
api.interrupt()

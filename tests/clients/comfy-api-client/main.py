"""Checks every answer against its own schemas (pydantic), with HTTP polling for the result."""

import asyncio
import json
import os

import httpx
from comfy_api_client.client import ComfyAPIClient, create_comfy_state_tracker


async def main():
    with open(os.environ["WORKFLOW"]) as file:
        workflow = json.load(file)
    async with httpx.AsyncClient() as http:
        client = ComfyAPIClient(os.environ["VIVARIUM_URL"], http)
        assert (await client.get_system_stats()).devices
        await client.get_extensions()
        await client.get_embeddings()
        uploaded = await client.upload_image("client.png", os.environ["PHOTO"], subfolder="clients")
        workflow["1"]["inputs"]["image"] = f"{uploaded.subfolder}/{uploaded.name}"
        workflow["13"]["inputs"]["filename_prefix"] = "comfy-api-client"
        tracker = await create_comfy_state_tracker(client, "http")
        queued = await client.submit_workflow(workflow)
        result = await queued.future
        await tracker.stop()
        (image,) = result.output_images
        image.image.save(os.environ["RESULT"])
        assert queued.prompt_id in await client.get_completed_prompts()
        assert len((await client.get_queue()).pending) == 0
        await client.remove_from_history([queued.prompt_id])
        await client.free_memory(unload_models=True)


asyncio.run(main())

// Uploads, queues, waits on a WebSocket for `executing` with null, reads the history and fetches the image.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

const { ComfyUIClient } = createRequire(process.env.INSTALLED)("comfy-ui-client");

const client = new ComfyUIClient(new URL(process.env.VIVARIUM_URL).host, "comfy-ui-client");
await client.connect();
const uploaded = await client.uploadImage(await readFile(process.env.PHOTO), "comfy-ui-client.jpg", true);
const workflow = JSON.parse(await readFile(process.env.WORKFLOW, "utf8"));
workflow["1"].inputs.image = uploaded.name;
workflow["13"].inputs.filename_prefix = "comfy-ui-client";
const images = await client.getImages(workflow);
await writeFile(process.env.RESULT, Buffer.from(await images["13"][0].blob.arrayBuffer()));
await client.getObjectInfo("ImageScale");
await client.getPrompt();
// Not `editHistory`: it reads the empty answer that ComfyUI gives to it as JSON.
await client.disconnect();
process.exit(0);

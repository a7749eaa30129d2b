// Runs the workflow twice: followed on a WebSocket, then by polling.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(process.env.INSTALLED);
const { Client } = require("@stable-canvas/comfyui-client");
const WebSocket = require("ws");

const client = new Client({ api_host: new URL(process.env.VIVARIUM_URL).host, WebSocket, fetch });
await client.connect();
await client.getSystemStats();
const workflow = JSON.parse(await readFile(process.env.WORKFLOW, "utf8"));
const form = new FormData();
form.append("image", new Blob([await readFile(process.env.PHOTO)]), "stable-canvas.jpg");
const uploaded = await (await client.fetchApi("/upload/image", { method: "POST", body: form })).json();
workflow["1"].inputs.image = uploaded.name;
workflow["13"].inputs.filename_prefix = "stable-canvas-socket";
const followed = await client.enqueue(workflow);
workflow["13"].inputs.filename_prefix = "stable-canvas-polling";
const polled = await client.enqueue_polling(workflow, { polling_ms: 100 });
for (const { images } of [followed, polled]) {
  if (images.length !== 1) throw new Error(`expected one image, got ${JSON.stringify(images)}`);
}
const [image] = polled.images;
const bytes = image.type === "buff" ? image.data : await (await fetch(image.data)).arrayBuffer();
await writeFile(process.env.RESULT, Buffer.from(bytes));
client.close();
process.exit(0);

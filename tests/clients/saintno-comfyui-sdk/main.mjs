// Its whole path: connect, upload, bind inputs and outputs of the workflow, run with progress events, fetch the image.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

const { CallWrapper, ComfyApi, PromptBuilder } = createRequire(process.env.INSTALLED)("@saintno/comfyui-sdk");

const api = await new ComfyApi(process.env.VIVARIUM_URL).init().waitForReady();
const photo = new Blob([await readFile(process.env.PHOTO)], { type: "image/jpeg" });
const uploaded = await api.uploadImage(photo, "saintno.jpg");
if (!uploaded) throw new Error("the upload failed");
const workflow = new PromptBuilder(JSON.parse(await readFile(process.env.WORKFLOW, "utf8")), ["photo", "prefix"], ["postcard"])
  .setInputNode("photo", "1.inputs.image")
  .setInputNode("prefix", "13.inputs.filename_prefix")
  .setOutputNode("postcard", "13")
  .input("photo", uploaded.info.filename)
  .input("prefix", "saintno-comfyui-sdk");
const result = await new CallWrapper(api, workflow).onFailed((error) => console.error(error)).run();
if (!result) throw new Error("the workflow failed");
const image = await api.getImage(result.postcard.images[0]);
await writeFile(process.env.RESULT, Buffer.from(await image.arrayBuffer()));
await api.getNodeDefs();
await api.getQueue();
api.destroy();
process.exit(0);

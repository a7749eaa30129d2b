#!/usr/bin/env python3
"""Records expected.png of an example workflow from a running ComfyUI.

    python record_workflow.py --url http://127.0.0.1:8288 ../workflows/photo-postcard

Uploads the images that lie beside workflow.json, runs it, and keeps the first image of its output.
"""

import argparse
import json
from pathlib import Path

from client import Server
from record import small_png


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    server = Server(arguments.url)
    for path in arguments.folder.iterdir():
        if path.suffix in (".jpg", ".png", ".webp") and path.stem != "expected":
            server.upload_image(path)
    entry = server.run(json.loads((arguments.folder / "workflow.json").read_text()))
    images = [image for output in entry["outputs"].values() for image in output["images"]]
    (arguments.folder / "expected.png").write_bytes(small_png(server.view(images[0])))


if __name__ == "__main__":
    main()

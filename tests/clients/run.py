#!/usr/bin/env python3
"""Clients that nobody here wrote run the example workflow against a server.

  run.py --install            install every client, at the version that its folder pins, below the folder INSTALLED
  run.py --check              say whether they are all installed
  run.py URL [CLIENT…]        run every client, or the named ones, against the server at URL

INSTALLED is target/clients unless `--installed DIR` says otherwise. Each client has a folder here with a pinned
requirement (`requirements.txt` for pip, `package.json` for npm) and a script that gets by environment variables: the
server (VIVARIUM_URL), the WORKFLOW, the PHOTO and where the image belongs (RESULT). No client is part of this repository.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORKFLOW = ROOT / "tests/workflows/photo-postcard/workflow.json"
PHOTO = ROOT / "tests/workflows/photo-postcard/photo.jpg"
CARD = (600, 440)
PATIENCE_SECONDS = 180


def clients():
    return sorted(path.parent for path in HERE.glob("*/main.*"))


def manifest(client):
    found = [client / name for name in ("requirements.txt", "package.json") if (client / name).is_file()]
    return found[0]


def stamp(client, installed):
    """Holds the requirement that is installed, so that another one is installed anew."""
    return installed / client.name / "installed.txt"


def is_installed(client, installed):
    written = stamp(client, installed)
    return written.is_file() and written.read_text() == manifest(client).read_text()


def install(client, installed):
    if is_installed(client, installed):
        return
    requirement, folder = manifest(client), installed / client.name
    print(f"  installing {client.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if requirement.name == "package.json":
        shutil.copy(requirement, folder)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    else:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--root-user-action=ignore", "--target", ".", "-r", str(requirement)]
    subprocess.run(command, cwd=folder, check=True)
    stamp(client, installed).write_text(requirement.read_text())


def upload(url):
    """For the clients that cannot upload: the photograph under the name that the workflow has."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    body = head.encode() + PHOTO.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/upload/image", body, headers)).read()


def run(client, installed, url, results):
    folder, result = installed / client.name, results / f"{client.name}.png"
    result.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "VIVARIUM_URL": url,
        "WORKFLOW": str(WORKFLOW),
        "PHOTO": str(PHOTO),
        "RESULT": str(result),
        "INSTALLED": f"{folder}/",
        "PYTHONPATH": str(folder),
        "PYTHONNOUSERSITE": "1",
    }
    script = next(client.glob("main.*"))
    program = sys.executable if script.suffix == ".py" else "node"
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [program, str(script)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
        )
        problem = None if ended.returncode == 0 else f"it ended with {ended.returncode}"
        said = ended.stdout
    except subprocess.TimeoutExpired as error:
        problem, said = f"it was not done after {PATIENCE_SECONDS} s", error.stdout or b""
    problem = problem or wrong_with(result)
    print(f"  {client.name:<32} {problem or 'passed'} ({time.monotonic() - began:.1f} s)", flush=True)
    if problem:
        print(said.decode(errors="replace"), flush=True)
    return problem is None


def wrong_with(result):
    if not result.is_file():
        return "it saved no image"
    head = result.read_bytes()[:24]
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        return "what it saved is no PNG"
    size = struct.unpack(">II", head[16:24])
    return None if size == CARD else f"its image has {size} pixels instead of {CARD}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--install", action="store_true")
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--installed", type=Path, default=ROOT / "target/clients")
    arguments.add_argument("url", nargs="?")
    arguments.add_argument("names", nargs="*", metavar="client")
    given = arguments.parse_args()
    installed = given.installed.resolve()
    chosen = [client for client in clients() if not given.names or client.name in given.names]
    if unknown := set(given.names) - {client.name for client in chosen}:
        arguments.error(f"there is no client {', '.join(sorted(unknown))}")
    if given.install:
        for client in chosen:
            install(client, installed)
        return
    if missing := [client.name for client in chosen if not is_installed(client, installed)]:
        sys.exit(f"not installed, or at another version: {', '.join(missing)}; run {sys.argv[0]} --install")
    if given.check:
        return
    if given.url is None:
        arguments.error("the URL of a server is missing")
    results = installed / "results"
    results.mkdir(exist_ok=True)
    upload(given.url)
    passed = [run(client, installed, given.url, results) for client in chosen]
    if not all(passed):
        sys.exit(f"{passed.count(False)} of {len(passed)} clients failed")


if __name__ == "__main__":
    main()

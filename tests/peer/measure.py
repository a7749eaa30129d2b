#!/usr/bin/env python3
"""Measures any server that speaks ComfyUI's protocol, and prints one JSON object.

    measure.py --url http://127.0.0.1:8188                     # a server that runs already
    measure.py --url http://127.0.0.1:8188 --start 'CMD …'     # starts it, adds start-up time and memory, stops it

Needs the standard library only, but for --websocket the package websocket-client.
README.md beside this file says exactly what each figure is.
"""

import argparse
import http.client
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse


class Client:
    """One keep-alive HTTP connection; prompts carry `client_id` where there is one."""

    def __init__(self, url, client_id=None):
        self.address = urllib.parse.urlsplit(url).netloc
        self.client_id = client_id
        self.connection = http.client.HTTPConnection(self.address, timeout=600)

    def request(self, method, path, body=None):
        self.connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self.connection.getresponse()
        data = response.read()
        if response.status != 200:
            sys.exit(f"measure.py: {method} {path} answered {response.status}: {data[:300]!r}")
        return data

    def queue(self, prompt):
        request = {"prompt": prompt} | ({"client_id": self.client_id} if self.client_id else {})
        body = json.dumps(request).encode()
        return json.loads(self.request("POST", "/prompt", body))["prompt_id"]

    def wait_until_idle(self, poll_seconds):
        """Returns once no prompt is pending or running."""
        while json.loads(self.request("GET", "/prompt"))["exec_info"]["queue_remaining"]:
            time.sleep(poll_seconds)

    def check_success(self, prompt_id):
        entry = json.loads(self.request("GET", f"/history/{prompt_id}"))[prompt_id]
        if entry["status"]["status_str"] != "success":
            sys.exit(f"measure.py: prompt {prompt_id} ended with {entry['status']}")


class Listener:
    """A WebSocket that reads and counts every event of `client_id`, as a front end would."""

    client_id = "measure"

    def __init__(self, url):
        import websocket  # the package websocket-client

        self.events = self.bytes = 0
        self.socket = websocket.create_connection(url.replace("http", "ws", 1) + f"/ws?clientId={self.client_id}")
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            try:
                message = self.socket.recv()
            except Exception:  # the server has gone: measuring is over
                return
            self.events += 1
            self.bytes += len(message)


class Colours:
    """A different colour at each call, and from a random start, so that no earlier result can be reused."""

    def __init__(self):
        self.next = random.randrange(1 << 24)

    def take(self):
        self.next = (self.next + 7919) % (1 << 24)
        return self.next


def invert_chain(colour, size, length):
    """EmptyImage size×size → `length` times ImageInvert → PreviewImage."""
    solid = {"width": size, "height": size, "batch_size": 1, "color": colour}
    prompt = {"1": {"class_type": "EmptyImage", "inputs": solid}}
    for number in range(2, length + 2):
        prompt[str(number)] = {"class_type": "ImageInvert", "inputs": {"image": [str(number - 1), 0]}}
    prompt[str(length + 2)] = {"class_type": "PreviewImage", "inputs": {"images": [str(length + 1), 0]}}
    return prompt


def prompts_per_second(client, colours, count):
    for _ in range(20):
        client.queue(invert_chain(colours.take(), 64, 1))
    client.wait_until_idle(0.01)
    begin = time.perf_counter()
    ids = [client.queue(invert_chain(colours.take(), 64, 1)) for _ in range(count)]
    posted = time.perf_counter()
    client.wait_until_idle(0.01)
    end = time.perf_counter()
    client.check_success(ids[0])
    client.check_success(ids[-1])
    return {"prompts": count, "prompts_per_second": count / (end - begin), "posts_per_second": count / (posted - begin)}


def chain_seconds(client, colours, length, repeats):
    """Median over `repeats` runs of one prompt with `length` ImageInvert nodes."""
    seconds = []
    for _ in range(repeats):
        prompt = invert_chain(colours.take(), 8, length)
        begin = time.perf_counter()
        prompt_id = client.queue(prompt)
        client.wait_until_idle(0.002)
        seconds.append(time.perf_counter() - begin)
        client.check_success(prompt_id)
    return statistics.median(seconds)


def object_info(client, count):
    """Median time of GET /object_info in milliseconds, its size, and the number of classes."""
    seconds = []
    for _ in range(count + 3):
        begin = time.perf_counter()
        body = client.request("GET", "/object_info")
        seconds.append(time.perf_counter() - begin)
    return {
        "object_info_median_ms": statistics.median(seconds[3:]) * 1000,
        "object_info_bytes": len(body),
        "object_info_classes": len(json.loads(body)),
    }


# --- A server of our own -----------------------------------------------------------------------------------------


def start(command, url):
    """Starts the server in a process group of its own; returns it and the seconds to its first answer."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        shlex.split(command), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = urllib.parse.urlsplit(url).netloc
    while time.perf_counter() - begin < 180:
        if process.poll() is not None:
            sys.exit(f"measure.py: the server ended at once with exit code {process.returncode}")
        try:
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("GET", "/system_stats")
            if connection.getresponse().status == 200:
                return process, time.perf_counter() - begin
        except OSError:
            time.sleep(0.005)
        finally:
            connection.close()
    os.killpg(process.pid, signal.SIGKILL)
    sys.exit("measure.py: the server did not answer /system_stats within 180 s")


def stop(process):
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def resident_mb(group):
    """Resident memory of all processes of a group, in MB (10^6 bytes)."""
    total = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if os.getpgid(int(entry)) == group:
                with open(f"/proc/{entry}/statm") as file:
                    total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (ProcessLookupError, FileNotFoundError):
            continue
    return total / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="where the server listens (with --start: will listen)")
    parser.add_argument("--start", metavar="CMD", help="command that starts the server in the foreground")
    parser.add_argument("--prompts", type=int, default=500, help="prompts of the throughput run (default 500)")
    parser.add_argument("--chains", type=int, nargs="*", default=[50, 100, 200, 400], help="chain lengths")
    parser.add_argument("--repeats", type=int, default=3, help="runs per chain length, median taken (default 3)")
    parser.add_argument("--websocket", action="store_true", help="follow all events on a WebSocket meanwhile")
    arguments = parser.parse_args()

    result = {"url": arguments.url, "load_average": os.getloadavg()[0]}
    process = None
    if arguments.start:
        process, result["start_seconds"] = start(arguments.start, arguments.url)
    # Never leave a server behind, and never wait for ever.
    watchdog = threading.Timer(900, lambda: (process and os.killpg(process.pid, signal.SIGKILL), os._exit(1)))
    watchdog.daemon = True
    watchdog.start()
    try:
        if process:
            time.sleep(3)
            result["idle_rss_mb"] = resident_mb(process.pid)
        listener = Listener(arguments.url) if arguments.websocket else None
        client, colours = Client(arguments.url, listener and listener.client_id), Colours()
        result |= object_info(client, 30)
        result |= prompts_per_second(client, colours, arguments.prompts)
        result["chain_seconds"] = {
            str(length): chain_seconds(client, colours, length, arguments.repeats) for length in arguments.chains
        }
        result["chain_ms_per_node"] = {k: v / int(k) * 1000 for k, v in result["chain_seconds"].items()}
        if listener:
            result["websocket"] = {"events": listener.events, "bytes": listener.bytes}
        if process:
            time.sleep(1)
            result["rss_after_mb"] = resident_mb(process.pid)
    finally:
        if process:
            stop(process)
    print(json.dumps({k: round_figures(v) for k, v in result.items()}, indent=1))


def round_figures(value):
    if isinstance(value, dict):
        return {k: round_figures(v) for k, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()

"""Cases for the tests: {op, inputs, args, outputs}, kept as JSON."""

import json
import math
import pathlib
import sys

import torch


def number(value):
    if isinstance(value, (bool, int)):
        return int(value)
    if math.isnan(value) or math.isinf(value):
        return str(value)
    return float(f"{value:.9g}")


def pack(tensor):
    dtype = {"torch.bool": "boolean"}.get(str(tensor.dtype), str(tensor.dtype).removeprefix("torch."))
    values = [number(v) for v in tensor.flatten().tolist()]
    return {"shape": list(tensor.shape), "dtype": dtype, "values": values}


def floats(*shape, dtype=torch.float32):
    """Sixteenths: exact in every float type, short in JSON."""
    return (torch.randint(-48, 49, shape) / 16).to(dtype)


class Goldens:
    def __init__(self, name):
        self.file = pathlib.Path(__file__).with_name(name)
        self.cases = []

    def case(self, op, inputs, outputs, **args):
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        self.cases.append({
            "op": op,
            "inputs": [None if t is None else pack(t) for t in inputs],
            "args": args,
            "outputs": [pack(t) for t in outputs],
        })

    def finish(self):
        """Writes the file, or with --check says what differs."""
        text = "[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in self.cases) + "\n]\n"
        if "--check" in sys.argv:
            return 0 if self.file.read_text() == text else f"the answers are others than {self.file.name} says"
        self.file.write_text(text)
        print(f"{len(self.cases)} cases, {len(text)} bytes")
        return 0

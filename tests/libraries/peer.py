"""The other end of `src/python.rs`: libraries that PyTorch and numpy bring along.

Answers a line with a line: `case<tab>NAME<tab>SHAPES<tab>FOLDER` reads the inputs, `result<tab>LIBRARY` runs once and writes
`result.f32`, `time<tab>LIBRARY<tab>RUNS` says the milliseconds of the fastest run.
"""

import json
import os
import re
import sys
import time

THREADS = int(sys.argv[1])
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = str(THREADS)
# In ticks of the clock, as a power of two: how long its idle threads wait for more work. As it comes they wait for 50 ms of
# processor time, and whoever is next takes twice as long.
os.environ["OPENBLAS_THREAD_TIMEOUT"] = "20"

import numpy
import torch
import torch.nn.functional as F

torch.set_num_threads(THREADS)
torch.set_grad_enabled(False)
ONEDNN = torch.ops.mkldnn


def versions():
    built = torch.__config__.show()
    onednn = re.search(r"MKL-DNN (v[\d.]+)", built)[1]
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", built)[1]
    openblas = numpy.__config__.show(mode="dicts")["Build Dependencies"]["blas"]["version"]
    return f"oneDNN {onednn} and MKL {mkl} by PyTorch {torch.__version__}; OpenBLAS {openblas} by numpy {numpy.__version__}"


def read(name, shapes, folder):
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(name.split()[-1], torch.float32)
    files = [numpy.fromfile(f"{folder}/{i}.f32", numpy.float32).reshape(shape) for i, shape in enumerate(shapes)]
    return [torch.from_numpy(file).to(dtype) for file in files]


def matmul(library, a, b):
    match library:
        case "MKL":
            return lambda: a @ b
        case "OpenBLAS":
            x, y = a.numpy(), b.numpy()
            return lambda: x @ y
        case _:
            return linear(library, a, b.t().contiguous())


def linear(library, x, w):
    match library:
        case "OpenBLAS":
            a, b = x.numpy(), w.numpy().T
            return lambda: a @ b
        case "oneDNN, weight reordered":
            w = ONEDNN._reorder_linear_weight(w, x.shape[0])
            return lambda: ONEDNN._linear_pointwise(x, w, None, "none", [], "")
        case _:
            return lambda: F.linear(x, w)


def conv(library, x, w):
    padding, ones = [w.shape[-1] // 2] * 2, [1, 1]
    if library == "oneDNN":
        return lambda: F.conv2d(x, w, None, 1, padding)
    # Channels last: the order it asks for, so that neither input nor result is reordered either.
    x = x.contiguous(memory_format=torch.channels_last)
    w = ONEDNN._reorder_convolution_weight(w, padding, ones, ones, 1, list(x.shape))
    return lambda: ONEDNN._convolution_pointwise(x, w, None, padding, ones, ones, 1, "none", [], "")


def fft(library, x):
    numbers = torch.view_as_complex(x)
    if library == "MKL":
        return lambda: torch.fft.fft2(numbers)
    numbers = numbers.numpy()
    return lambda: numpy.fft.fft2(numbers)


def write(result, folder):
    result = torch.from_numpy(result) if isinstance(result, numpy.ndarray) else result
    result = torch.view_as_real(result) if result.is_complex() else result
    result.float().contiguous().numpy().tofile(f"{folder}/result.f32")


def answer(command, *rest):
    global name, inputs, folder, works
    if command == "case":
        name, shapes, folder = rest
        inputs, works = read(name, json.loads(shapes), folder), {}
        return "ready"
    library = rest[0]
    if library not in works:
        works[library] = globals()[name.split()[0]](library, *inputs)
    work = works[library]
    if command == "result":
        write(work(), folder)
        return "written"
    least = float("inf")
    for _ in range(int(rest[1])):
        start = time.perf_counter()
        result = work()
        least = min(least, time.perf_counter() - start)
        del result
    return f"{least * 1e3:.4f}"


print(versions(), flush=True)
for line in sys.stdin:
    try:
        print(answer(*line.rstrip("\n").split("\t")), flush=True)
    except Exception as error:
        print(f"failed: {error!r}".replace("\n", " "), flush=True)

"""PyTorch's side of `cargo xtask bench tensor`: reads lines `threads N CLOCK` and `NAME<tab>RUNS`, answers each with the
milliseconds of RUNS runs of the case of that name, or with `unknown`. The cases are those of `examples/compare.rs`.
"""

import sys
import time

import torch
import torch.nn.functional as F

torch.set_grad_enabled(False)
n = torch.randn
CASES = {}




def conv(channels, out, side, window, stride, last=False, dtype=torch.float32):
    x, w, b = n(1, channels, side, side), n(out, channels, window, window), n(out)
    if last:
        x, w = x.to(memory_format=torch.channels_last), w.to(memory_format=torch.channels_last)
    x, w, b = x.to(dtype), w.to(dtype), b.to(dtype)
    return lambda: F.conv2d(x, w, b, stride, window // 2)


def attention(heads, queries, keys, width):
    q, k, v = n(1, heads, queries, width), n(1, heads, keys, width), n(1, heads, keys, width)
    return lambda: F.scaled_dot_product_attention(q, k, v)


def linear(rows, inputs, outputs, dtype=torch.float32):
    x, w, b = n(rows, inputs).to(dtype), n(outputs, inputs).to(dtype), n(outputs).to(dtype)
    return lambda: F.linear(x, w, b)


def matmul(rows, inner, columns):
    a, b = n(rows, inner), n(inner, columns)
    return lambda: a @ b


def image(channels=3, side=2048, planar=False):
    x = torch.rand(1, side, side, channels).movedim(-1, 1)
    return x.contiguous() if planar else x


def resize(side, to, mode):
    x = image(side=side)
    options = {} if mode in ("nearest-exact", "area", "nearest") else {"align_corners": False}
    return lambda: F.interpolate(x, size=(to, to), mode=mode, **options)


def pillow_lanczos(side, to):
    """As ComfyUI does it: to 8 bits, through Pillow, back."""
    import numpy
    from PIL import Image
    x = image(side=side)

    def run():
        pictures = [Image.fromarray(numpy.clip(255.0 * i.movedim(0, -1).cpu().numpy(), 0, 255).astype(numpy.uint8)) for i in x]
        pictures = [i.resize((to, to), resample=Image.Resampling.LANCZOS) for i in pictures]
        return torch.stack([torch.from_numpy(numpy.array(i).astype(numpy.float32) / 255.0).movedim(-1, 0) for i in pictures])
    return run


def pointwise(function, *shape):
    x, y = n(*shape), n(*shape)
    return lambda: function(x, y)


def norm(kind, last=False, then=lambda x, w, b: x):
    w, b = n(320), n(320)
    if kind == "group":
        x = n(1, 320, 64, 64)
        x = x.to(memory_format=torch.channels_last) if last else x
        return lambda: then(F.group_norm(x, 32, w, b), w, b)
    x = n(4096, 320)
    return (lambda: then(F.layer_norm(x, (320,), w, b), w, b)) if kind == "layer" else (lambda: F.rms_norm(x, (320,), w))


LATENT = (1, 320, 64, 64)
PICTURE = (1, 2048, 2048, 3)


def make(name):
    parts = name.split()
    kind, rest = parts[0], parts[1:]
    last = "last" in rest
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(rest[-1] if rest else "", torch.float32)
    numbers = [int(part) for part in rest if part.isdigit()]
    match kind:
        case "conv":
            return conv(*numbers, last=last, dtype=dtype)
        case "attention":
            return attention(*numbers)
        case "linear":
            return linear(*numbers, dtype=dtype)
        case "matmul":
            return matmul(*numbers)
        case "group_norm":
            return norm("group", last, *[lambda x, w, b: F.silu(x)] * ("silu" in rest))
        case "layer_norm":
            return norm("layer", False, *[lambda x, w, b: x * w + b] * ("modulate" in rest))
        case "rms_norm":
            return norm("rms")
        case "softmax":
            x = n(*numbers)
            return lambda: x.softmax(-1)
        case "resize":
            return resize(numbers[0], numbers[1], rest[0])
        case "lanczos":
            return pillow_lanczos(*numbers)
        case "latent" | "picture":
            functions = {
                "silu": lambda x, y: F.silu(x), "gelu": lambda x, y: F.gelu(x), "sigmoid": lambda x, y: x.sigmoid(),
                "tanh": lambda x, y: x.tanh(), "exp": lambda x, y: x.exp(), "add": lambda x, y: x + y,
                "mul": lambda x, y: x * y, "scale": lambda x, y: x * 0.5, "clamp": lambda x, y: x.clamp(0, 1),
                "log": lambda x, y: x.abs().log(), "sin": lambda x, y: x.sin(), "pow": lambda x, y: x.abs().pow(2.2),
                "sum": lambda x, y: x.sum(), "mean": lambda x, y: x.mean(-1), "amax": lambda x, y: x.amax((1, 2)),
                "half": lambda x, y: x.half(), "bytes": lambda x, y: x.clamp(0, 255).byte(),
                "planar": lambda x, y: x.movedim(-1, 1).contiguous(), "cat": lambda x, y: torch.cat([x, y], 0),
                "where": lambda x, y: torch.where(x > y, x, y), "lerp": lambda x, y: torch.lerp(x, y, 0.25),
            }
            return pointwise(functions[rest[0]], *(LATENT if kind == "latent" else PICTURE))
        case "sort":
            x = n(64, 8192)
            return lambda: x.sort(-1)
        case "cumsum":
            x = n(64, 8192)
            return lambda: x.cumsum(-1)
        case "randn":
            return lambda: n(1, 4, 128, 128)
    return None


for line in sys.stdin:
    name, _, runs = line.rstrip("\n").partition("\t")
    if name.startswith("threads "):
        _, threads, clock = name.split()
        torch.set_num_threads(int(threads))
        now = time.process_time if clock == "processor" else time.perf_counter
        print(torch.__version__, flush=True)
        continue
    try:
        work = CASES.get(name) or CASES.setdefault(name, make(name))
        work()
    except (TypeError, KeyError, RuntimeError, ValueError, ImportError) as error:
        print(f"unknown {error!r}".replace("\n", " "), flush=True)
        continue
    taken = []
    for _ in range(int(runs)):
        start = now()
        work()
        taken.append(f"{(now() - start) * 1e3:.4f}")
    print(" ".join(taken), flush=True)
    if len(CASES) > 4:
        CASES.clear()

"""How long PyTorch takes for what `examples/layers.rs` times: python timings.py [threads]"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.set_grad_enabled(False)
RUNS = 7


def timed(name, work):
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    print(f"{name:45} {statistics.median(taken):9.2f} ms, best {min(taken):9.2f}")


n = torch.randn
a, b = n(1024, 1024), n(1024, 1024)
timed("matmul 1024³", lambda: a @ b)
x, w, bias = n(4096, 320), n(1280, 320), n(1280)
timed("linear 4096×320→1280", lambda: F.linear(x, w, bias))
hx, hw = x.half(), w.half()
timed("linear 4096×320→1280 f16", lambda: F.linear(hx, hw))
x2, w2 = n(77, 768), n(768, 768)
timed("matmul 77×768×768", lambda: x2 @ w2)
for name, c, side, k, stride, pad in [("conv3×3 320→320 at 64²", 320, 64, 3, 1, 1), ("conv3×3 320→320 at 64² stride 2", 320, 64, 3, 2, 1),
                                      ("conv1×1 320→320 at 64²", 320, 64, 1, 1, 0), ("conv3×3 1280→1280 at 16²", 1280, 16, 3, 1, 1),
                                      ("conv3×3 128→128 at 256²", 128, 256, 3, 1, 1)]:
    cx, cw, cb = n(1, c, side, side), n(c, c, k, k), n(c)
    timed(name, lambda: F.conv2d(cx, cw, cb, stride, pad))
    lx, lw = cx.to(memory_format=torch.channels_last), cw.to(memory_format=torch.channels_last)
    timed(f"{name} channels last", lambda: F.conv2d(lx, lw, cb, stride, pad))
gx, gw, gb = n(1, 320, 64, 64), n(320), n(320)
timed("group_norm 320×64²", lambda: F.group_norm(gx, 32, gw, gb))
gl = gx.to(memory_format=torch.channels_last)
timed("group_norm 320×64² channels last", lambda: F.group_norm(gl, 32, gw, gb))
timed("silu 320×64²", lambda: F.silu(gx))
x = n(4096, 320)
timed("layer_norm 4096×320", lambda: F.layer_norm(x, (320,), gw, gb))
s = n(8, 1024, 1024)
timed("softmax 8×1024×1024", lambda: s.softmax(-1))
q, k, v = n(1, 8, 4096, 40), n(1, 8, 4096, 40), n(1, 8, 4096, 40)
timed("attention 8×4096×40", lambda: F.scaled_dot_product_attention(q, k, v))
k2, v2 = n(1, 8, 77, 40), n(1, 8, 77, 40)
timed("attention 8×4096×77×40", lambda: F.scaled_dot_product_attention(q, k2, v2))
timed("randn 4×128²", lambda: torch.randn(1, 4, 128, 128))
o = n(64, 8192)
timed("sort 64×8192", lambda: o.sort(-1))
timed("cumsum 64×8192", lambda: o.cumsum(-1))

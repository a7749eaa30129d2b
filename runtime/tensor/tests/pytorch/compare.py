"""Writes goldens.json: small inputs and what PyTorch answers for them, so that the tests compare without Python.

    python compare.py            # writes goldens.json beside this file
    python compare.py --check    # fails if PyTorch now answers otherwise

Needs PyTorch (made with 2.15, CPU). Every case is {op, inputs, args, outputs}; `tests/against_pytorch.rs` knows the ops.
"""

import sys

import torch
import torch.nn.functional as F

from golden import Goldens, floats

torch.manual_seed(7)
torch.set_num_threads(1)
GOLDENS = Goldens("goldens.json")
case = GOLDENS.case


def linear_algebra():
    for a, b in [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (2, 4, 1)),
                 ((3, 4), (2, 4, 5)), ((2, 3, 0), (0, 4)), ((0, 4), (4, 3)), ((17, 70), (70, 33))]:
        a, b = floats(*a), floats(*b)
        case("matmul", [a, b], a @ b)
    a, b = floats(3, 4, dtype=torch.float16), floats(4, 2, dtype=torch.float16)
    case("matmul", [a, b], a @ b)
    x, w, bias = floats(2, 3, 4), floats(5, 4), floats(5)
    case("linear", [x, w, bias], F.linear(x, w, bias))
    case("linear", [x, w, None], F.linear(x, w))
    c, a, b = floats(3), floats(2, 4), floats(4, 3)
    case("addmm", [c, a, b], torch.addmm(c, a, b, beta=0.5, alpha=2.0), beta=0.5, alpha=2.0)
    c, a, b = floats(2, 1, 3), floats(2, 2, 4), floats(2, 4, 3)
    case("addmm", [c, a, b], torch.baddbmm(c, a, b), beta=1.0, alpha=1.0)
    for eq, shapes in [("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]), ("ij->ji", [(2, 3)]),
                       ("ij->i", [(2, 3)]), ("i,j->ij", [(3,), (4,)]), ("ijk,kl->jli", [(2, 3, 4), (4, 5)]), ("ij,ij->", [(2, 3), (2, 3)]),
                       ("bnc,c->bn", [(2, 3, 4), (4,)]), ("aij,bk->aikb", [(2, 3, 4), (2, 5)])]:
        tensors = [floats(*shape) for shape in shapes]
        case("einsum", tensors, torch.einsum(eq, *tensors), equation=eq)


def convolutions():
    settings = [
        # batch, in, size, out, window, stride, padding, dilation, groups
        (1, 3, (5, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
        (2, 4, (7, 5), 6, (3, 2), (2, 1), (0, 1), (1, 2), 2),
        (1, 3, (4, 4), 2, (1, 1), (1, 1), (0, 0), (1, 1), 1),
        (2, 4, (4, 3), 4, (1, 1), (1, 1), (0, 0), (1, 1), 2),
        (1, 4, (6, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1), 4),
        (1, 2, (9, 8), 3, (4, 4), (3, 2), (2, 1), (2, 2), 1),
        (1, 2, (3, 3), 2, (1, 1), (2, 2), (1, 1), (1, 1), 1),
    ]
    for batch, cin, size, cout, window, stride, padding, dilation, groups in settings:
        args = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        x, w, b = floats(batch, cin, *size), floats(cout, cin // groups, *window), floats(cout)
        case("conv2d", [x, w, b], F.conv2d(x, w, b, **args), **args)
        w = floats(cin, cout // groups, *window)
        extra = tuple(min(1, max(s, d) - 1) for s, d in zip(stride, dilation))
        case("conv_transpose2d", [x, w, b], F.conv_transpose2d(x, w, b, output_padding=extra, **args), output_padding=extra, **args)
    args = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    x, w = floats(1, 3, 4, 4, dtype=torch.bfloat16), floats(2, 3, 3, 3, dtype=torch.bfloat16)
    case("conv2d", [x, w, None], F.conv2d(x.float(), w.float(), None, **args).bfloat16(), **args)


def norms():
    x, w, b = floats(2, 6, 3, 4), floats(6), floats(6)
    for groups in (1, 2, 6):
        case("group_norm", [x, w, b], F.group_norm(x, groups, w, b, 1e-5), groups=groups, eps=1e-5)
    case("group_norm", [x + 100, None, None], F.group_norm((x + 100).double(), 3, None, None, 1e-6).float(), groups=3, eps=1e-6)
    x, w, b = floats(2, 3, 40), floats(40), floats(40)
    case("layer_norm", [x, w, b], F.layer_norm(x, (40,), w, b, 1e-5), dims=1, eps=1e-5)
    case("layer_norm", [x, None, None], F.layer_norm(x, (3, 40), None, None, 1e-5), dims=2, eps=1e-5)
    case("rms_norm", [x, w], F.rms_norm(x, (40,), w, 1e-6), dims=1, eps=1e-6)
    case("rms_norm", [x, None], F.rms_norm(x, (3, 40), None, 1e-6), dims=2, eps=1e-6)
    x = floats(3, 4, 5)
    x[0, 0, 0] = float("-inf")
    for dim in (0, 1, -1):
        case("softmax", [x], F.softmax(x, dim), dim=dim)


def attention():
    def heads(length, width=4):
        return floats(2, 3, length, width) / 2

    q, k, v = heads(5), heads(7), heads(7, 6)
    args = dict(causal=False, scale=None)
    case("attention", [q, k, v, None], F.scaled_dot_product_attention(q, k, v), **args)
    case("attention", [q, k, v, None], F.scaled_dot_product_attention(q, k, v, is_causal=True), causal=True, scale=None)
    case("attention", [q, k, v, None], F.scaled_dot_product_attention(q, k, v, scale=0.3), causal=False, scale=0.3)
    mask = torch.rand(5, 7) > 0.4
    mask[2] = False
    mask[3] = True
    case("attention", [q, k, v, mask], F.scaled_dot_product_attention(q, k, v, attn_mask=mask), **args)
    mask = floats(2, 1, 5, 7)
    case("attention", [q, k, v, mask], F.scaled_dot_product_attention(q, k, v, attn_mask=mask), **args)
    q, k, v = floats(70, 3), floats(600, 3), floats(600, 2)
    case("attention", [q, k, v, None], F.scaled_dot_product_attention(q[None], k[None], v[None])[0], **args)


def elementwise():
    x = torch.tensor([-30.0, -3.5, -1.0, -0.25, -1e-3, 0.0, 1e-3, 0.25, 1.0, 3.5, 30.0, float("nan"), float("inf"), float("-inf")])
    functions = {
        "leaky_relu": (lambda t: F.leaky_relu(t, 0.2), 0.2), "elu": (lambda t: F.elu(t, 1.5), 1.5), "softplus": (lambda t: F.softplus(t, 2.0), 2.0),
        "mish": (F.mish, 0.0), "quick_gelu": (lambda t: t * torch.sigmoid(1.702 * t), 0.0),
        "gelu_tanh": (lambda t: F.gelu(t, approximate="tanh"), 0.0), "erf": (torch.erf, 0.0), "expm1": (torch.expm1, 0.0),
        "hard_swish": (F.hardswish, 0.0),
    }
    finite = x[:11]
    for name, (function, parameter) in functions.items():
        case("activate", [finite], function(finite), name=name, parameter=parameter)
    positive = torch.tensor([0.0, 1e-6, 0.5, 1.0, 8.0, 1e10])
    case("activate", [positive], torch.log1p(positive), name="log1p", parameter=0.0)
    case("activate", [positive], torch.log2(positive), name="log2", parameter=0.0)


def order():
    x = torch.randint(-6, 7, (3, 5, 4)).float()
    x[1, 2, 3] = float("nan")
    for dim in (0, 1, -1):
        for descending in (False, True):
            case("sort", [x], torch.sort(x, dim=dim, descending=descending, stable=True), dim=dim, descending=descending)
        for op, function in (("argmax", torch.argmax), ("argmin", torch.argmin)):
            case(op, [x], function(x, dim, keepdim=dim == 1), dim=dim, keep=dim == 1)
        case("cumsum", [torch.nan_to_num(x)], torch.cumsum(torch.nan_to_num(x), dim), dim=dim)
        for correction in (0, 1):
            y = floats(3, 5, 4)
            case("variance", [y], torch.var(y, dim, correction=correction, keepdim=True), dims=[dim], correction=correction, keep=True)
    distinct = torch.randperm(60).reshape(3, 5, 4) - 30
    for dtype in (torch.float32, torch.int32):
        y = distinct.to(dtype)
        for largest in (True, False):
            case("topk", [y], torch.topk(y, 3, dim=1, largest=largest), k=3, dim=1, largest=largest)
    case("cumsum", [distinct.to(torch.int32)], torch.cumsum(distinct.to(torch.int32), 1), dim=1)
    y = floats(3, 5)
    case("variance", [y], torch.var(y, correction=1), dims=[], correction=1, keep=False)


def indexing():
    for dtype in (torch.float32, torch.int64, torch.bool):
        x = torch.randint(0, 2 if dtype == torch.bool else 30, (4, 5, 3)).to(dtype)
        index = torch.randint(0, 5, (3, 6, 2))
        case("gather", [x, index], torch.gather(x, 1, index), dim=1)
        names = torch.tensor([3, 0, 0, 2])
        for dim in (0, 1, 2):
            names_here = names.clamp(max=x.shape[dim] - 1)
            case("index_select", [x, names_here], torch.index_select(x, dim, names_here), dim=dim)
        table = torch.stack([torch.randperm(5)[:3] for _ in range(8)]).reshape(4, 2, 3).permute(0, 2, 1).contiguous()
        source = torch.randint(0, 2 if dtype == torch.bool else 30, (4, 3, 3)).to(dtype)
        case("scatter", [x, table, source], x.scatter(1, table, source), dim=1)
        if dtype != torch.bool:
            again = torch.randint(0, 5, (4, 3, 2))
            case("scatter_add", [x, again, source], x.scatter_add(1, again, source), dim=1)
        mask = torch.rand(5, 1) > 0.5
        case("masked_fill", [x, mask], x.masked_fill(mask, 1), value=1.0)
    table, index = floats(6, 4), torch.tensor([[0, 5], [2, 2]])
    case("embedding", [table, index], F.embedding(index, table))


def arranging():
    x, y = floats(2, 3), floats(2, 3)
    for dim in (0, 1, 2, -1):
        case("stack", [x, y], torch.stack([x, y], dim), dim=dim)
    z = floats(4, 6)
    case("split", [z], torch.split(z, [1, 2, 3], 1), lengths=[1, 2, 3], dim=1)
    case("roll", [z], torch.roll(z, (1, -2), (0, 1)), shifts=[1, -2], dims=[0, 1])
    case("roll", [z], torch.roll(z, (13,), (1,)), shifts=[13], dims=[1])
    case("repeat_interleave", [z], torch.repeat_interleave(z, 3, 0), repeats=3, dim=0)
    case("repeat_interleave", [z], torch.repeat_interleave(z, 2, 1), repeats=2, dim=1)
    x = floats(2, 8, 2, 3)
    case("pixel_shuffle", [x], F.pixel_shuffle(x, 2), factor=2)
    x = floats(2, 2, 4, 6)
    case("pixel_unshuffle", [x], F.pixel_unshuffle(x, 2), factor=2)


def pools():
    x = floats(2, 3, 7, 6)
    for window, stride, padding in [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1)), ((3, 3), (3, 3), (1, 0)), ((7, 6), (1, 1), (0, 0))]:
        args = dict(window=window, stride=stride, padding=padding)
        case("max_pool2d", [x], F.max_pool2d(x, window, stride, padding), **args)
        for count in (True, False):
            out = F.avg_pool2d(x, window, stride, padding, count_include_pad=count)
            case("avg_pool2d", [x], out, count_padding=count, **args)


def statistics():
    for rows, columns in ((3, 3), (2, 5), (0, 2)):
        case("eye", [], torch.eye(rows, columns), rows=rows, columns=columns)
    x = floats(3, 5, 4)
    odd = x.clone()
    odd[1, 2, 3] = float("nan")
    for dim in (0, 1, -1):
        case("cumprod", [x], torch.cumprod(x.double(), dim).float(), dim=dim)
        case("median", [odd], torch.median(odd, dim, keepdim=dim == 1).values, dim=dim, keep=dim == 1)
        for q in (0.0, 0.3, 1.0):
            case("quantile", [odd], torch.quantile(odd, q, dim, keepdim=dim == 1), q=q, dim=dim, keep=dim == 1)
        for p in (0.0, 1.0, 2.0, 3.5):
            case("norm", [x], torch.linalg.vector_norm(x, p, dim, keepdim=dim == 1), p=p, dims=[dim], keep=dim == 1)
    case("norm", [x], torch.linalg.vector_norm(x, float("inf"), (0, 2)), p="inf", dims=[0, 2], keep=False)
    whole = torch.randint(-9, 9, (4, 6))
    case("median", [whole], torch.median(whole, 1).values, dim=1, keep=False)
    mean, variance, w, b = floats(3), floats(3).abs() + 0.5, floats(3), floats(3)
    for shape in ((2, 3, 4, 5), (2, 3), (2, 3, 4)):
        y = floats(*shape)
        case("batch_norm", [y, mean, variance, w, b], F.batch_norm(y, mean, variance, w, b, eps=1e-5), eps=1e-5)
        case("batch_norm", [y, mean, variance, None, None], F.batch_norm(y, mean, variance, eps=1e-3), eps=1e-3)
    y = floats(2, 3, 4, 5)
    case("instance_norm", [y, w, b], F.instance_norm(y, None, None, w, b, eps=1e-5), eps=1e-5)
    for stride, padding, dilation, groups in ((1, 1, 1, 1), (2, 0, 2, 2)):
        args = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        y, w, b = floats(2, 4, 9), floats(6, 4 // groups, 3), floats(6)
        out = F.conv1d(y, w, b, **args)
        case("conv1d", [y, w, b], out, stride=(7, stride), padding=(7, padding), dilation=(7, dilation), groups=groups)


def random():
    for seed in (0, 1, 42, 123456789012, 2**64 - 1):
        for shape in ((1,), (3,), (15,), (16,), (40,), (1, 4, 8, 8)):
            torch.manual_seed(seed % 2**64 if seed < 2**63 else seed - 2**64)
            # Bits, so that nothing is lost in writing.
            case("randn", [], torch.randn(shape).view(torch.int32), shape=shape, seed=str(seed))
    torch.manual_seed(3)
    digest = 2166136261
    for bits in torch.randn(50_001).view(torch.int32).tolist():
        digest = ((digest ^ (bits & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    case("randn_digest", [], torch.tensor(digest), shape=[50_001], seed="3")
    torch.manual_seed(42)
    case("rand", [], torch.rand(40).view(torch.int32), shape=[40], seed="42")


for group in (linear_algebra, convolutions, norms, attention, elementwise, order, indexing, arranging, pools, random, statistics):
    group()
sys.exit(GOLDENS.finish())

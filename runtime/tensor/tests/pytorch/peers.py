"""Writes peers.json: the operations that PyTorch shares with others, and what those others answer.

    python peers.py            # writes peers.json beside this file
    python peers.py --check    # fails if they now answer otherwise

Needs torch, gguf, kornia, numpy, scipy, opencv-python-headless, scikit-image and onnx.
"""

import sys

import cv2
import gguf
import kornia
import numpy as np
import onnx
import onnx.reference
import scipy.ndimage
import skimage.color
import torch
import torch.nn.functional as F

from golden import Goldens, floats

torch.manual_seed(11)
torch.set_num_threads(1)
GOLDENS = Goldens("peers.json")
case = GOLDENS.case


def windows():
    settings = [((2, 2), (1, 1), (0, 0), (1, 1)), ((3, 2), (2, 1), (1, 1), (1, 1)), ((2, 3), (1, 2), (2, 0), (2, 1)), ((4, 5), (1, 1), (0, 0), (1, 1))]
    x = floats(2, 3, 4, 5)
    for window, stride, padding, dilation in settings:
        args = dict(window=window, stride=stride, padding=padding, dilation=dilation, groups=1)
        columns = F.unfold(x, window, dilation, padding, stride)
        case("unfold", [x], columns, **args)
        y = floats(*columns.shape)
        case("fold", [y], F.fold(y, (4, 5), window, dilation, padding, stride), size=(4, 5), **args)
    case("unfold", [x.half()], F.unfold(x.half(), (2, 2)), window=(2, 2), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
    for size in ((2, 2), (3, 5), (1, 1), (7, 9)):
        case("adaptive_avg_pool2d", [x], F.adaptive_avg_pool2d(x, size), size=size)


def volumes():
    settings = [
        # batch, in, size, out, window, stride, padding, dilation, groups
        (1, 2, (3, 4, 5), 3, (2, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1), 1),
        (2, 4, (4, 3, 5), 2, (3, 1, 2), (2, 1, 2), (1, 0, 1), (1, 2, 1), 2),
        (1, 2, (5, 4, 4), 4, (2, 2, 2), (1, 2, 1), (2, 0, 0), (3, 1, 2), 1),
        (1, 3, (2, 3, 3), 3, (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), 3),
    ]
    for batch, inputs, size, outputs, window, stride, padding, dilation, groups in settings:
        args = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        x, w, b = floats(batch, inputs, *size), floats(outputs, inputs // groups, *window), floats(outputs)
        case("conv3d", [x, w, b], F.conv3d(x, w, b, **args), **args)
        w, b = floats(inputs, outputs // groups, *window), floats(outputs)
        extra = tuple(max(s, d) - 1 for s, d in zip(stride, dilation))
        for output_padding in ((0, 0, 0), extra):
            out = F.conv_transpose3d(x, w, b, output_padding=output_padding, **args)
            case("conv_transpose3d", [x, w, b], out, output_padding=output_padding, **args)
    # Padding that cuts off more than the window reaches.
    x, w = floats(1, 1, 1, 2, 2), floats(1, 1, 1, 1, 1)
    args = dict(stride=(5, 1, 1), padding=(2, 0, 0), dilation=(1, 1, 1), groups=1)
    case("conv_transpose3d", [x, w, None], F.conv_transpose3d(x, w, output_padding=(4, 0, 0), **args), output_padding=(4, 0, 0), **args)
    for stride, padding, dilation, groups, output_padding in ((1, 1, 1, 1, 0), (2, 0, 1, 2, 1), (3, 2, 2, 1, 0)):
        x, w, b = floats(2, 4, 6), floats(4, 6 // groups, 3), floats(6)
        args = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        out = F.conv_transpose1d(x, w, b, output_padding=output_padding, **args)
        case("conv_transpose1d", [x, w, b], out, output_padding=output_padding,
             stride=(7, stride), padding=(7, padding), dilation=(7, dilation), groups=groups)


def sampling():
    x = floats(2, 3, 4, 5)
    # Places inside, outside, on pixels and far away.
    grid = floats(2, 3, 4, 2) / 2
    grid[0, 0, 0, 0], grid[0, 0, 1, 1], grid[1, 2, 3, 0] = 50.0, -77.25, 1.0
    for corners in (False, True):
        for border in ("zeros", "border", "reflection"):
            for mode in ("nearest", "bilinear", "bicubic"):
                # Halves between pixels are a matter of rounding elsewhere: keep away from them.
                places = grid + 0.013 if mode == "nearest" else grid
                out = F.grid_sample(x, places, mode, border, corners)
                case("grid_sample", [x, places], out, mode=mode, border=border, corners=corners)
        theta = floats(2, 2, 3)
        for size in ((2, 3), (1, 4), (1, 1)):
            out = F.affine_grid(theta, [2, 1, *size], corners)
            case("affine_grid", [theta], out, size=size, corners=corners)


def rope():
    for batch, heads, length, width in ((2, 2, 3, 8), (1, 1, 5, 6)):
        x = floats(batch, heads, length, width)
        angles = torch.arange(length)[:, None] / 7 * torch.arange(1, width // 2 + 1)
        cos, sin = angles.cos(), angles.sin()
        for interleaved in (False, True):
            node = onnx.helper.make_node("RotaryEmbedding", ["x", "cos", "sin", "at"], ["y"], interleaved=int(interleaved))
            wire = lambda name, kind=onnx.TensorProto.FLOAT: onnx.helper.make_tensor_value_info(name, kind, None)
            graph = onnx.helper.make_graph([node], "g", [wire("x"), wire("cos"), wire("sin"), wire("at", onnx.TensorProto.INT64)], [wire("y")])
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
            run = onnx.reference.ReferenceEvaluator(model).run
            at = np.arange(length)[None].repeat(batch, 0)
            out = run(None, dict(x=x.numpy(), cos=cos.numpy(), sin=sin.numpy(), at=at))[0]
            case("rope", [x, cos, sin], torch.from_numpy(out), interleaved=interleaved)


def morphology():
    x = floats(1, 2, 6, 7)
    footprints = [torch.ones(3, 3), torch.ones(1, 4), torch.ones(5, 2), torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]]),
                  torch.tensor([[1, 0, 0, 0], [0, 0, 1, 1]]), torch.ones(15, 15)]
    for footprint in footprints:
        kernel = footprint.to(torch.uint8).numpy()
        for name, run in (("erode", cv2.erode), ("dilate", cv2.dilate)):
            out = torch.from_numpy(np.stack([run(plane.numpy(), kernel) for plane in x[0]]))[None]
            # OpenCV says the largest number where nothing is seen.
            out = torch.where(out.abs() > 1e30, out.sign() * float("inf"), out)
            case("morphology", [x, footprint.bool()], out, name=name)
    modes = {"constant": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "grid-wrap"}
    for window in ((3, 3), (5, 3), (1, 7), (1, 1)):
        for border, mode in modes.items():
            out = scipy.ndimage.median_filter(x.numpy(), (1, 1, *window), mode=mode)
            case("median_filter", [x], torch.from_numpy(out), window=window, border=border)
    for picture in (torch.rand(2, 9, 11) > 0.2, torch.rand(1, 1, 13) > 0.4, torch.rand(3, 8, 1) > 0.5, torch.rand(30, 30) > 0.01):
        if picture.dim() == 2:
            picture = picture[None]
        out = torch.from_numpy(np.stack([scipy.ndimage.distance_transform_edt(plane.numpy()) for plane in picture])).float()
        case("distance_transform", [picture], out)


def pictures():
    rgb = torch.cat([torch.rand(2, 5, 3), torch.tensor([[[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])])
    lab = torch.from_numpy(skimage.color.rgb2lab(rgb.double().numpy()))
    case("rgb_to_lab", [rgb], lab.float())
    case("lab_to_rgb", [lab.float()], torch.from_numpy(skimage.color.lab2rgb(lab.float().double().numpy())).float())
    matrix = torch.tensor([[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]], dtype=torch.double)
    ycbcr = rgb.double() @ matrix.T + torch.tensor([0, 0.5, 0.5])
    eight = (rgb * 255).round().to(torch.uint8).numpy()
    others = cv2.cvtColor(eight, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    assert np.abs(others - ycbcr.numpy() * 255).max() < 1.5
    case("rgb_to_ycbcr", [rgb], ycbcr.float())
    case("ycbcr_to_rgb", [ycbcr.float()], rgb)
    values = floats(3, 40)
    values[0, 0] = float("nan")
    for bins, low, high in ((10, -3.0, 3.0), (4, 0.0, 1.0), (7, -1.0, 2.5)):
        rows = [torch.from_numpy(np.histogram(row.numpy()[~np.isnan(row.numpy())], bins, (low, high))[0]) for row in values]
        case("histogram", [values], torch.stack(rows), bins=bins, min=low, max=high)
    smooth = F.interpolate(torch.rand(2, 3, 5, 6), (14, 17), mode="bicubic")
    for picture, low, high in ((smooth, 0.1, 0.2), (smooth[:, :1], 0.2, 0.6), (torch.rand(1, 1, 3, 3), 0.05, 0.3)):
        case("canny", [picture], kornia.filters.canny(picture, low, high)[1], low=low, high=high)


def fourier():
    for shape, dims in (((4, 6, 2), (0, 1)), ((5, 7, 2), (1,)), ((2, 3, 1, 2), (2, 0)), ((1, 13, 2), (-2,)), ((34, 2), (0,))):
        x = floats(*shape)
        over = [dim if dim >= 0 else dim + 1 for dim in dims]
        for inverse in (False, True):
            run = torch.fft.ifftn if inverse else torch.fft.fftn
            out = torch.view_as_real(run(torch.view_as_complex(x.double()), dim=over)).float()
            case("fft", [x], out, dims=dims, inverse=inverse)


def stored():
    """Weights in formats that only files have."""
    wide = torch.cat([torch.linspace(-500, 500, 60), torch.linspace(-0.05, 0.05, 60), torch.randn(40), torch.tensor(
        [0.0, -0.0, 448, 449, 464, 465, 480, -1e9, 57344, 61439, 61440, 65536, float("inf"), float("-inf"), float("nan"), 1e-9, 2**-10, 2**-17, 3 * 2**-18])])
    for name, dtype in (("float8-e4m3", torch.float8_e4m3fn), ("float8-e5m2", torch.float8_e5m2)):
        every = torch.arange(256).to(torch.uint8)
        case("from_float8", [every], every.view(dtype).float(), name=name)
        case("to_float8", [wide], wide.to(dtype).float(), name=name)
    generator = np.random.default_rng(5)
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"):
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        data = generator.integers(0, 256, (2, 2 * size), dtype=np.uint8)
        for block in data.reshape(-1, size):
            # Where the scales are; random bytes would make some of them not-a-number.
            for at in {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}.get(name, (0,)):
                block[at:at + 2] = np.frombuffer(np.float16(generator.normal() / 16).tobytes(), np.uint8)
        out = torch.from_numpy(gguf.quants.dequantize(data, kind)).half()
        case("from_blocks", [torch.from_numpy(data.reshape(-1))], out, format=name, shape=[2, 2 * elements])


for group in (stored, windows, volumes, sampling, rope, morphology, pictures, fourier):
    group()
sys.exit(GOLDENS.finish())

#!/usr/bin/env python3
"""Writes the small input images of the goldens into inputs/ (needs Pillow and NumPy).

The files are committed, so this runs only when an input is added or changed:

    python make_inputs.py PHOTO     # PHOTO: ../workflows/photo-postcard/photo.jpg

Every image is drawn from formulas and one seeded generator, so a second run gives the same pixels.
Encoders may differ between versions of Pillow: after a new run, record the goldens anew as well.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent / "inputs"


def scene(width, height, seed, channels=3):
    """A smooth scene with edges and a little noise, u8 [height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for channel in range(channels):
        fx, fy, phase = rng.uniform(0.05, 0.25, 2).tolist() + [rng.uniform(0, 6)]
        plane = 0.5 + 0.45 * np.sin(fx * x + phase) * np.cos(fy * y + channel)
        planes.append(plane)
    image = np.stack(planes, axis=-1)
    image[height // 4 : height // 2, width // 5 : width // 2] = rng.uniform(0, 1, channels)
    image[height // 2 :, : width // 6] = 0.0
    image[: height // 6, width // 2 :] = 1.0
    patch = image[height // 2 : height // 2 + 6, width // 2 : width // 2 + 6]
    patch[:] = rng.uniform(0, 1, patch.shape)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def ramp(width, height):
    """A diagonal ramp from 0 to 255, u8 [height, width]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return (255 * (x / (width - 1) + y / (height - 1)) / 2).round().astype(np.uint8)


def write_png16(path, pixels):
    """Writes a 16-bit PNG of u16 [height, width, channels]; Pillow cannot write 16-bit colour."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def write_still_images():
    """RGB, RGBA, palette, grey and bilevel files, and the lossless and lossy containers."""
    rgb = Image.fromarray(scene(48, 36, 1))
    rgb.save(OUT / "rgb.png", optimize=True)
    Image.fromarray(scene(48, 36, 2)).save(OUT / "rgb_same_size.png", optimize=True)
    Image.fromarray(scene(40, 56, 3)).save(OUT / "rgb_tall.png", optimize=True)
    Image.fromarray(scene(1, 1, 4)).save(OUT / "pixel.png")
    Image.fromarray(scene(37, 1, 5)).save(OUT / "row.png")

    rgba = scene(48, 36, 6, 4)
    rgba[..., 3] = ramp(48, 36)
    Image.fromarray(rgba).save(OUT / "rgba.png", optimize=True)

    palette = rgb.quantize(16)
    palette.save(OUT / "palette.png", optimize=True)
    palette.save(OUT / "palette_alpha.png", transparency=bytes(range(0, 256, 16)), optimize=True)
    palette.save(OUT / "palette_keyed.png", transparency=3, optimize=True)

    rgb.convert("L").save(OUT / "grey.png", optimize=True)
    grey_alpha = np.stack([scene(48, 36, 7, 1)[..., 0], ramp(48, 36)], axis=-1)
    Image.fromarray(grey_alpha, "LA").save(OUT / "grey_alpha.png", optimize=True)
    rgb.convert("1").save(OUT / "bilevel.png", optimize=True)
    rgb.save(OUT / "rgb_keyed.png", transparency=rgb.getpixel((12, 12)), optimize=True)

    rgb.save(OUT / "rgb.bmp")
    rgb.save(OUT / "rgb.tiff", compression="tiff_lzw")
    rgb.save(OUT / "rgb.webp", lossless=True)
    Image.fromarray(rgba).save(OUT / "rgba.webp", lossless=True, exact=True)
    Image.fromarray(ramp(16, 12)).save(OUT / "mask_small.png")
    Image.fromarray(255 - ramp(48, 36)).save(OUT / "mask.png")


def write_16_bit_images():
    """16-bit PNGs whose low bytes are not copies of the high ones."""
    rng = np.random.default_rng(8)
    base = scene(48, 36, 9, 4).astype(np.uint16) * 256 + rng.integers(0, 256, (36, 48, 4)).astype(np.uint16)
    write_png16(OUT / "grey16.png", base[..., :1])
    write_png16(OUT / "grey_alpha16.png", base[..., [0, 3]])
    write_png16(OUT / "rgb16.png", base[..., :3])
    write_png16(OUT / "rgba16.png", base)


def write_photos(photo):
    """JPEGs of a real photograph: colour, grey, CMYK, and with EXIF orientations."""
    small = Image.open(photo).convert("RGB").resize((96, 64), Image.Resampling.LANCZOS)
    small.save(OUT / "cup.jpg", quality=90)
    small.save(OUT / "cup_444.jpg", quality=90, subsampling=0, progressive=True)
    small.convert("L").save(OUT / "cup_grey.jpg", quality=90)
    small.convert("CMYK").save(OUT / "cup_cmyk.jpg", quality=90)
    tiny = small.resize((48, 32), Image.Resampling.LANCZOS)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        tiny.save(OUT / f"cup_exif{orientation}.jpg", quality=90, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    tiny.save(OUT / "cup_exif6.png", exif=exif, optimize=True)
    tiny.save(OUT / "cup_lossy.webp", quality=80)


def write_animations():
    """Three frames as GIF (transparent, partial frames), animated WebP and APNG."""
    frames = []
    for index in range(3):
        frame = Image.new("RGBA", (24, 18), (0, 0, 0, 0))
        frame.paste((40 + 80 * index, 200 - 60 * index, 120, 255), (2 + 5 * index, 3, 10 + 5 * index, 14))
        frame.paste((250, 240, 20, 255), (0, 15, 24, 18))
        frames.append(frame)
    opaque = [Image.alpha_composite(Image.new("RGBA", (24, 18), (90, 20, 30, 255)), f).convert("RGB") for f in frames]
    rest = dict(save_all=True, duration=100, loop=0)
    frames[0].save(OUT / "anim_alpha.gif", append_images=frames[1:], disposal=2, **rest)
    opaque[0].save(OUT / "anim.gif", append_images=opaque[1:], **rest)
    frames[0].save(OUT / "anim.webp", append_images=frames[1:], lossless=True, exact=True, **rest)
    frames[0].save(OUT / "anim.png", append_images=frames[1:], **rest)
    opaque[0].save(OUT / "still.gif")


def main():
    OUT.mkdir(exist_ok=True)
    write_still_images()
    write_16_bit_images()
    write_photos(sys.argv[1])
    write_animations()
    # Not an image at all, and one cut short: for error goldens.
    (OUT / "broken.png").write_bytes((OUT / "rgb.png").read_bytes()[:700])
    (OUT / "not_an_image.png").write_bytes(b"This is text, not a picture.\n")


if __name__ == "__main__":
    main()

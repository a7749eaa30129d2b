"""The image cases of the goldens: one small prompt each, keyed by a name that says what it pins down.

`image_cases()` gives `{name: prompt}`. Prompts are built in code so that a case is one line;
what was sent is also kept beside each recording, so a reader or another test needs no Python.
"""

METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
BLEND_MODES = ["normal", "multiply", "screen", "overlay", "soft_light", "difference"]

# Where the recorded peer is plainly wrong: kept as a record, not as something to match.
QUIRKS = {
    "load_grey16_png": "16-bit grey is cut off at 255 instead of scaled, so nearly everything turns white",
    "load_image_mask_red_grey16_png": "16-bit grey is cut off at 255 instead of scaled",
}


class Graph:
    """Builds a prompt in API form. `add` returns the node's id; `link(id, slot)` refers to an output."""

    def __init__(self, name):
        self.name = name
        self.prompt = {}

    def add(self, class_type, **inputs):
        node_id = str(len(self.prompt) + 1)
        linked = {k: [v, 0] if isinstance(v, Node) else v for k, v in inputs.items()}
        self.prompt[node_id] = {"class_type": class_type, "inputs": linked}
        return Node(node_id)

    def load(self, image):
        return self.add("LoadImage", image=image)

    def save(self, image):
        return self.add("SaveImage", images=image, filename_prefix=self.name)

    def save_mask(self, mask):
        return self.save(self.add("MaskToImage", mask=mask))

    def solid(self, color, width, height, batch=1):
        return self.add("EmptyImage", width=width, height=height, batch_size=batch, color=color)

    def red(self, image):
        """The red channel of an image as a mask."""
        return self.add("ImageToMask", image=image, channel="red")


class Node(str):
    """A node id; used as an input it stands for the node's first output."""

    def slot(self, index):
        return [str(self), index]


class Cases:
    """Collects cases; `one_image` covers the common form load, one node, save."""

    def __init__(self):
        self.prompts = {}

    def graph(self, name):
        assert name not in self.prompts, name
        graph = Graph(name)
        self.prompts[name] = graph.prompt
        return graph

    def one_image(self, name, class_type, image="rgb.png", key="image", **inputs):
        graph = self.graph(name)
        graph.save(graph.add(class_type, **{key: graph.load(image)}, **inputs))


def image_cases():
    cases = Cases()
    for part in (loading, loading_masks, generating, scaling, scaling_by, filtering, blending, masks, cutting,
                 compositing, saving):
        part(cases)
    return cases.prompts


def loading(cases):
    """LoadImage: every kind of file, its colours and (where there is one) its mask."""
    colours = [
        "rgb.png", "rgba.png", "palette.png", "palette_alpha.png", "palette_keyed.png", "grey.png",
        "grey_alpha.png", "bilevel.png", "rgb_keyed.png", "grey16.png", "grey_alpha16.png", "rgb16.png",
        "rgba16.png", "rgb.bmp", "rgb.tiff", "rgb.webp", "rgba.webp", "cup_lossy.webp", "cup.jpg",
        "cup_444.jpg", "cup_grey.jpg", "cup_cmyk.jpg", "cup_exif6.png", "still.gif", "anim.gif",
        "anim_alpha.gif", "anim.webp", "anim.png", "pixel.png", "row.png",
    ]
    for image in colours + [f"cup_exif{n}.jpg" for n in range(2, 9)]:
        graph = cases.graph("load_" + image.replace(".", "_"))
        graph.save(graph.load(image))
    with_mask = [
        "rgb.png", "rgba.png", "palette.png", "palette_alpha.png", "palette_keyed.png", "grey_alpha.png",
        "rgb_keyed.png", "rgba16.png", "rgba.webp", "anim_alpha.gif", "anim.webp", "anim.png",
    ]
    for image in with_mask:
        graph = cases.graph("load_mask_of_" + image.replace(".", "_"))
        graph.save_mask(graph.load(image).slot(1))


def loading_masks(cases):
    """LoadImageMask: all channels of a file with and without alpha, and the odd kinds."""
    wanted = [(image, channel) for image in ("rgba.png", "rgb.png") for channel in ("alpha", "red", "green", "blue")]
    wanted += [("palette_alpha.png", "alpha"), ("grey_alpha.png", "alpha"), ("grey.png", "red"),
               ("grey16.png", "red"), ("cup_exif6.jpg", "green"), ("anim.gif", "red")]
    for image, channel in wanted:
        graph = cases.graph(f"load_image_mask_{channel}_{image.replace('.', '_')}")
        graph.save_mask(graph.add("LoadImageMask", image=image, channel=channel))


def generating(cases):
    for name, color, width, height, batch in [
        ("empty_black", 0, 5, 3, 1), ("empty_colour", 0x12AB7F, 16, 9, 1), ("empty_batch", 0xFF8001, 4, 4, 3),
    ]:
        graph = cases.graph(name)
        graph.save(graph.solid(color, width, height, batch))
    cases.one_image("invert_rgb", "ImageInvert")
    # LoadImage drops alpha, so a batch of three frames stands for "more than one image".
    cases.one_image("invert_batch", "ImageInvert", image="anim.gif")


def scaling(cases):
    """ImageScale: every method, up and down, with and without centre crop, and the sizes that mean something."""
    for method in METHODS:
        for label, width, height in (("up", 70, 61), ("down", 19, 22)):
            for crop in ("disabled", "center"):
                cases.one_image(f"scale_{method}_{label}_{crop}", "ImageScale",
                                upscale_method=method, width=width, height=height, crop=crop)
        cases.one_image(f"scale_{method}_same_size", "ImageScale",
                        upscale_method=method, width=48, height=36, crop="center")
    for label, width, height in (("width_0", 0, 27), ("height_0", 31, 0), ("both_0", 0, 0), ("width_0_to_1", 0, 1)):
        cases.one_image(f"scale_{label}", "ImageScale", upscale_method="bilinear",
                        width=width, height=height, crop="disabled")
    # 37x1 at width 18 would be 0.49 rows high: at least one is kept.
    cases.one_image("scale_row_height_0", "ImageScale", image="row.png", upscale_method="bicubic",
                    width=18, height=0, crop="disabled")
    cases.one_image("scale_tall_crop_wide", "ImageScale", image="rgb_tall.png", upscale_method="area",
                    width=33, height=10, crop="center")
    cases.one_image("scale_batch_lanczos", "ImageScale", image="anim.gif", upscale_method="lanczos",
                    width=30, height=20, crop="center")
    cases.one_image("scale_pixel_bicubic", "ImageScale", image="pixel.png", upscale_method="bicubic",
                    width=7, height=5, crop="disabled")
    cases.one_image("scale_to_one_pixel_area", "ImageScale", upscale_method="area", width=1, height=1, crop="disabled")
    # Bicubic leaves 0..1; half of it over grey shows what a saved PNG would clip.
    graph = cases.graph("scale_bicubic_overshoot_survives")
    wide = graph.add("ImageScale", image=graph.load("rgb.png"), upscale_method="bicubic",
                     width=96, height=72, crop="disabled")
    half = graph.red(graph.solid(0x808080, 96, 72))
    graph.save(graph.add("ImageCompositeMasked", destination=graph.solid(0x808080, 96, 72), source=wide,
                         x=0, y=0, resize_source=False, mask=half))
    # Lanczos goes through 8 bits, so the same measurement shows none.
    graph = cases.graph("scale_lanczos_is_8_bit")
    dim = graph.add("ImageBlend", image1=graph.load("rgb.png"), image2=graph.solid(0, 48, 36),
                    blend_factor=0.97, blend_mode="normal")
    wide = graph.add("ImageScale", image=dim, upscale_method="lanczos", width=48, height=37, crop="disabled")
    graph.save(graph.add("ImageSharpen", image=wide, sharpen_radius=1, sigma=1.0, alpha=5.0))


def scaling_by(cases):
    for method in METHODS:
        for label, factor in (("up", 1.37), ("down", 0.41)):
            cases.one_image(f"scale_by_{method}_{label}", "ImageScaleBy", upscale_method=method, scale_by=factor)
    # 40x56 by 1/16 is 2.5x3.5, which becomes 2x4.
    cases.one_image("scale_by_half_rounds_to_even", "ImageScaleBy", image="rgb_tall.png",
                    upscale_method="bilinear", scale_by=0.0625)


def filtering(cases):
    for radius, sigma in ((1, 1.0), (1, 0.1), (3, 0.4), (5, 2.5), (17, 1.0), (31, 10.0)):
        cases.one_image(f"blur_r{radius}_s{sigma}".replace(".", "_"), "ImageBlur",
                        blur_radius=radius, sigma=sigma)
    cases.one_image("blur_batch", "ImageBlur", image="anim.gif", blur_radius=2, sigma=1.0)
    for radius, sigma, alpha in ((1, 1.0, 1.0), (1, 1.0, 0.0), (2, 0.35, 0.2), (4, 3.0, 0.05), (12, 0.6, 5.0)):
        cases.one_image(f"sharpen_r{radius}_s{sigma}_a{alpha}".replace(".", "_"), "ImageSharpen",
                        sharpen_radius=radius, sigma=sigma, alpha=alpha)


def blending(cases):
    for mode in BLEND_MODES:
        for factor in (0.35, 1.0):
            graph = cases.graph(f"blend_{mode}_{factor}".replace(".", "_"))
            graph.save(graph.add("ImageBlend", image1=graph.load("rgb.png"), image2=graph.load("rgb_same_size.png"),
                                 blend_factor=factor, blend_mode=mode))
    for name, first, second, mode in [
        ("blend_size_mismatch", "rgb.png", "rgb_tall.png", "normal"),
        ("blend_size_mismatch_soft_light", "rgb_tall.png", "rgb.png", "soft_light"),
        ("blend_single_with_batch", "still.gif", "anim.gif", "multiply"),
        ("blend_batch_with_single", "anim.gif", "still.gif", "screen"),
    ]:
        graph = cases.graph(name)
        graph.save(graph.add("ImageBlend", image1=graph.load(first), image2=graph.load(second),
                             blend_factor=0.6, blend_mode=mode))
    # Difference goes below 0 before it is mixed and clamped: order of the steps shows.
    graph = cases.graph("blend_difference_half_of_negative")
    graph.save(graph.add("ImageBlend", image1=graph.solid(0x404040, 8, 8), image2=graph.solid(0xC0C0C0, 8, 8),
                         blend_factor=0.25, blend_mode="difference"))


def masks(cases):
    for channel in ("red", "green", "blue"):
        graph = cases.graph(f"image_to_mask_{channel}")
        graph.save_mask(graph.add("ImageToMask", image=graph.load("rgb.png"), channel=channel))
    graph = cases.graph("invert_mask")
    graph.save_mask(graph.add("InvertMask", mask=graph.load("rgba.png").slot(1)))
    graph = cases.graph("mask_to_image_of_batch")
    graph.save_mask(graph.red(graph.load("anim.gif")))


def cutting(cases):
    for name, width, height, x, y in [
        ("crop_inside", 20, 10, 7, 5), ("crop_past_right_and_bottom", 40, 30, 30, 20),
        ("crop_starts_outside", 10, 10, 500, 500), ("crop_larger_than_image", 500, 500, 0, 0),
    ]:
        cases.one_image(name, "ImageCrop", width=width, height=height, x=x, y=y)
    cases.one_image("crop_batch", "ImageCrop", image="anim.gif", width=9, height=8, x=4, y=3)
    for name, first, second in [
        ("batch_same_size", "rgb.png", "rgb_same_size.png"), ("batch_other_size", "rgb.png", "rgb_tall.png"),
        ("batch_of_batches", "anim.gif", "still.gif"),
    ]:
        graph = cases.graph(name)
        graph.save(graph.add("ImageBatch", image1=graph.load(first), image2=graph.load(second)))


def compositing(cases):
    """ImageCompositeMasked: offsets, sources that stick out, masks of other sizes, resized sources, batches."""

    def case(name, destination="rgb.png", source="rgb_tall.png", x=0, y=0, resize=False, mask=None, shrink=None):
        graph = cases.graph(name)
        inputs = dict(destination=graph.load(destination), source=graph.load(source), x=x, y=y, resize_source=resize)
        if shrink:
            inputs["source"] = graph.add("ImageScale", image=inputs["source"], upscale_method="bilinear",
                                         width=shrink[0], height=shrink[1], crop="disabled")
        if mask:
            inputs["mask"] = graph.add("LoadImageMask", image=mask, channel="red")
        graph.save(graph.add("ImageCompositeMasked", **inputs))

    case("composite_origin", shrink=(20, 15))
    case("composite_offset", shrink=(20, 15), x=11, y=9)
    case("composite_sticks_out", x=20, y=10)
    case("composite_wholly_outside", shrink=(20, 15), x=48, y=0)
    case("composite_far_outside", shrink=(20, 15), x=900, y=900)
    case("composite_source_larger_in_both", destination="still.gif", source="rgb_tall.png")
    case("composite_resize_source", resize=True)
    case("composite_resize_source_offset", resize=True, x=13, y=6)
    case("composite_mask_same_size", source="rgb_same_size.png", mask="mask.png")
    case("composite_mask_small", source="rgb_same_size.png", mask="mask_small.png")
    case("composite_mask_larger_than_source", shrink=(20, 15), x=30, y=25, mask="mask.png")
    case("composite_mask_and_resize", resize=True, x=5, y=5, mask="mask_small.png")
    case("composite_onto_batch", destination="anim.gif", source="rgb_tall.png", shrink=(10, 10), x=5, y=4)
    case("composite_batch_onto_single", destination="rgb.png", source="anim.gif", x=5, y=4)
    graph = cases.graph("composite_mask_of_other_batch")
    mask = graph.red(graph.load("anim.gif"))
    graph.save(graph.add("ImageCompositeMasked", destination=graph.load("anim.gif"), source=graph.load("still.gif"),
                         x=0, y=0, resize_source=False, mask=mask))


def saving(cases):
    graph = cases.graph("save_truncates")
    blurred = graph.add("ImageBlur", image=graph.load("rgb.png"), blur_radius=1, sigma=10.0)
    graph.save(graph.add("ImageInvert", image=blurred))
    graph = cases.graph("save_in_subfolder")
    graph.add("SaveImage", images=graph.solid(0xFF, 6, 4), filename_prefix="sub/folder/%width%x%height%_name")
    graph = cases.graph("save_batch_numbers")
    graph.add("SaveImage", images=graph.solid(0xFF00, 4, 4, 3), filename_prefix="frame%batch_num%of")
    graph = cases.graph("preview_batch")
    graph.add("PreviewImage", images=graph.load("anim.gif"))
    graph = cases.graph("two_outputs")
    image = graph.solid(0x0A0B0C, 4, 4)
    graph.save(image)
    graph.add("PreviewImage", images=graph.add("ImageInvert", image=image))

"""For a ComfyUI that `record.py` starts: the nodes of our test pack that conversations use, with the same names, inputs and
doings."""

import time

import comfy.model_management
import comfy.utils


class TestSleepLoop:
    CATEGORY = "testing"
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        milliseconds = ("INT", {"default": 100, "min": 0, "max": 600000})
        every = ("INT", {"default": 10, "min": 1, "max": 10000})
        return {"required": {"milliseconds": milliseconds}, "optional": {"every": every, "image": ("IMAGE",)}}

    def run(self, milliseconds, every=10, image=None):
        progress = comfy.utils.ProgressBar(milliseconds)
        begun = time.monotonic()
        while (gone := (time.monotonic() - begun) * 1000) < milliseconds:
            progress.update_absolute(int(gone))
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(every / 1000)
        return {"ui": {"text": [f"{milliseconds} ms"]}, "result": (image,)}


class TestError:
    CATEGORY = "testing"
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"message": ("STRING", {"default": "it went wrong"})}}

    def run(self, message):
        raise RuntimeError(message)


NODE_CLASS_MAPPINGS = {"TestSleepLoop": TestSleepLoop, "TestError": TestError}

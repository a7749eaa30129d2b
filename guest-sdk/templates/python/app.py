"""The nodes of this pack. `vivarium pack test` builds it and runs its example workflow."""

from vivarium_node import Input, Node, Output, multiply, pack


class Brighten(Node):
    """Makes an image brighter or darker."""

    class_type = "{{class}}"
    display_name = "Brighten"
    category = "image/adjust"
    inputs = [
        Input("image", "IMAGE"),
        Input("stops", "FLOAT", options={
            "default": 1.0, "min": -4.0, "max": 4.0, "step": 0.1,
            "tooltip": "How many stops: 1 doubles the light, -1 halves it, 0 leaves the image as it is.",
        }),
    ]
    outputs = [Output("IMAGE")]

    def run(self, image, stops):
        # The pixels stay in the host, which does the arithmetic.
        return multiply(image, 2.0**stops).clamp(0.0, 1.0)


Nodes = pack(
    name="{{name}}",
    version="0.1.0",
    publisher="{{publisher}}",
    description="Makes images brighter.",
    license="MIT",
    nodes=[Brighten],
)

// The nodes of this pack. `vivarium pack test` builds it and runs its example workflow; `npm run check` checks the types.

import { multiply, pack, type Tensor } from "./vivarium-node.js";

export const nodes = pack({
  name: "{{name}}",
  version: "0.1.0",
  publisher: "{{publisher}}",
  description: "Makes images brighter.",
  license: "MIT",
  nodes: [
    {
      classType: "{{class}}",
      displayName: "Brighten",
      description: "Makes an image brighter or darker.",
      category: "image/adjust",
      inputs: {
        image: { type: "IMAGE" },
        stops: {
          type: "FLOAT",
          default: 1.0,
          min: -4.0,
          max: 4.0,
          step: 0.1,
          tooltip: "How many stops: 1 doubles the light, -1 halves it, 0 leaves the image as it is.",
        },
      },
      outputs: [{ type: "IMAGE" }],
      run({ image, stops }: { image: Tensor; stops: number }) {
        // The pixels stay in the host, which does the arithmetic.
        return multiply(image, 2 ** stops).clamp(0.0, 1.0);
      },
    },
  ],
});

//! A node is a struct, whose fields are its inputs, and a function.

use vivarium_node::prelude::*;

pack! {
    name: "{{name}}",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "{{publisher}}",
    description: "Makes images brighter.",
    license: "MIT",
    nodes: [{{class}}],
}

/// Makes an image brighter or darker.
#[derive(Node)]
#[node(category = "image/adjust", display_name = "Brighten")]
struct {{class}} {
    image: Image,
    /// How many stops: 1 doubles the light, -1 halves it, 0 leaves the image as it is.
    #[input(default = 1.0, min = -4.0, max = 4.0, step = 0.1)]
    stops: f64,
}

impl Run for {{class}} {
    type Output = Image;

    fn run(self) -> Result<Image> {
        // The pixels stay in the host, which does the arithmetic.
        Ok((self.image * factor(self.stops)).clamp(0.0, 1.0).into())
    }
}

fn factor(stops: f64) -> f64 {
    stops.exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_twice_the_light() {
        assert_eq!([factor(0.0), factor(1.0), factor(-1.0)], [1.0, 2.0, 0.5]);
    }
}

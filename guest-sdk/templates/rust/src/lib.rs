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
    use vivarium_testkit::{Image, Pack};

    #[test]
    fn a_stop_is_twice_the_light_and_white_is_the_most() {
        // Builds the component, once for all tests, and calls the node in the sandbox.
        let image = Image::filled(4, 4, [0.25, 0.5, 0.75]);
        let brighten = Pack::of_this_crate().node("{{class}}").input("image", image);
        let brighter = brighten.input("stops", 1.0).run().output(0).image();
        assert_eq!(brighter.pixel(0, 0), [0.5, 1.0, 1.0]);
    }

    #[test]
    fn no_stop_changes_nothing() {
        // What needs no host is tested like any Rust.
        assert_eq!(super::factor(0.0), 1.0);
    }
}

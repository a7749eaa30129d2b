//! RebatchImages.

use vivarium_node::prelude::*;

/// Puts all images of a list into batches of another size.
#[derive(Node)]
#[node(category = "image/batch", display_name = "Rebatch Images", input_is_list)]
pub(crate) struct RebatchImages {
    images: Vec<Image>,
    #[input(default = 1, min = 1, max = 4096)]
    batch_size: Vec<u64>,
}

impl Run for RebatchImages {
    type Output = Vec<Image>;

    fn run(self) -> Result<Vec<Image>> {
        let size = usize::try_from(self.batch_size.first().copied().unwrap_or(1))?.max(1);
        let mut singles = Vec::new();
        for image in &self.images {
            singles.extend((0..image.size()?.batch).map(|index| image.at(index)));
        }
        Ok(singles.chunks(size).map(|chunk| Tensor::cat(chunk, 0).into()).collect())
    }
}

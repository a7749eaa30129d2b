//! Order statistics, norms of vectors, running products, and the identity.

use super::{Dtype, Raw, Tensor};

impl Tensor {
    /// The identity of `rows` × `columns`.
    #[must_use]
    pub fn eye(rows: u64, columns: u64, dtype: Dtype) -> Self {
        Self::from_host(Raw::eye(rows, columns, dtype))
    }

    /// The products of each element and all before it. Floats only.
    #[must_use]
    pub fn cumprod(&self, dim: i32) -> Self {
        self.then(|raw| raw.cumprod(dim))
    }

    /// The lower middle one of the elements along `dim` in order; not-a-number if there is one.
    #[must_use]
    pub fn median(&self, dim: i32, keep_dim: bool) -> Self {
        self.then(|raw| raw.median(dim, keep_dim))
    }

    /// What the part `q` (0 to 1) of the elements along `dim` lies below, interpolated. Floats only.
    #[must_use]
    pub fn quantile(&self, q: f64, dim: i32, keep_dim: bool) -> Self {
        self.then(|raw| raw.quantile(q, dim, keep_dim))
    }

    /// The vector norm of order `p` over the given dimensions, or all when there are none. Floats only.
    #[must_use]
    pub fn norm(&self, p: f64, dims: impl AsRef<[i32]>, keep_dims: bool) -> Self {
        self.then(|raw| raw.norm(p, dims.as_ref(), keep_dims))
    }
}

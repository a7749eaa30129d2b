//! The handle to a tensor, and copies from and to the host.

use crate::shape::Layout;
use crate::storage::{Allocation, Buffer, Storage, Stored};
use crate::{Budget, BudgetExceeded, DType, Element, OpContext, Shape, TensorError};
use std::fmt;
use std::sync::Arc;

/// An immutable array of numbers. Cloning it copies no data. Views of a tensor share its storage and keep all of it alive.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) storage: Arc<Storage>,
    pub(crate) layout: Layout,
    pub(crate) label: Option<Arc<str>>,
}

/// The element types as the host may name them in [`Tensor::from_vec`] and [`Tensor::as_slice`].
#[allow(private_bounds)]
pub trait HostElement: Element + Stored {}
impl<T: Element + Stored> HostElement for T {}

impl Tensor {
    /// The lengths, outermost first, as the node interface gives them.
    pub fn shape(&self) -> Vec<u64> {
        self.dims().iter().map(|length| *length as u64).collect()
    }

    /// The lengths, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.layout.lengths()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.layout.shape.rank()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.layout.shape.elements()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Steps between neighbours along each dimension, in elements. 0 where expanded, negative where flipped.
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// True when row-major order is memory order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// Bytes of the elements seen by this view.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 * self.dtype().size() as u64
    }

    /// Bytes the whole storage is charged for; the same for every view of it.
    pub fn charged_bytes(&self) -> u64 {
        self.storage.charged()
    }

    /// True when both are views of one storage (which is charged only once).
    pub fn shares_storage(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// An identity of the storage while it lives: to count what is shared only once.
    pub fn storage_id(&self) -> usize {
        Arc::as_ptr(&self.storage) as usize
    }

    /// Moves the storage's charge to `budget`: when a call's result is kept, it goes from the call's account to the
    /// tenant's (which was charged for it all along, so that cannot fail). On failure nothing changes.
    pub fn charge_to(&self, budget: &Arc<Budget>) -> Result<(), BudgetExceeded> {
        self.storage.charge_to(budget)
    }

    /// What whoever computes has written on it, for example where it came from. Views have the label of what they show; other
    /// results have none.
    pub fn label(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }

    /// The same tensor with a label.
    pub fn labelled(mut self, label: Option<Arc<str>>) -> Tensor {
        self.label = label;
        self
    }

    /// A tensor of the given elements, row-major. The number must fit the shape.
    pub fn from_vec<T: HostElement>(shape: &[u64], values: Vec<T>, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "from-vec";
        let shape = Shape::new(OP, shape)?;
        if shape.elements() != values.len() {
            let message = format!("hold {} elements, but shape {shape} has {}", values.len(), shape.elements());
            return Err(TensorError::argument(OP, "values", message));
        }
        let mut values = values;
        values.shrink_to_fit();
        Ok(Tensor::of(Layout::contiguous(shape), Allocation::adopt(OP, values, cx)?))
    }

    /// Computes the elements now, if they were put off. Until then operands are kept alive, and computing may still fail for
    /// want of memory or because it is cancelled.
    pub fn settle(&self, cx: &OpContext) -> Result<(), TensorError> {
        self.storage.settle("settle", Some(cx))
    }

    /// The elements in row-major order without a copy, if they are of type T and lie so in this machine's memory.
    pub fn as_slice<T: HostElement>(&self) -> Option<&[T]> {
        let values = T::view(self.storage.host()?)?;
        if !self.is_contiguous() {
            return None;
        }
        values.get(self.layout.offset..)?.get(..self.elements())
    }

    /// The elements in row-major order as T: floats round, integers truncate and saturate. The vector is the caller's to
    /// account for.
    pub fn to_vec<T: HostElement>(&self, cx: &OpContext) -> Result<Vec<T>, TensorError> {
        if let Some(values) = self.as_slice::<T>() {
            return Ok(values.to_vec());
        }
        let cast = self.cast(T::DTYPE, cx)?.contiguous(cx)?;
        cast.buffer("to-vec", cx)?;
        Ok(cast.as_slice::<T>().map(<[T]>::to_vec).unwrap_or_default())
    }

    pub(crate) fn of<T: Stored>(layout: Layout, allocation: Allocation<T>) -> Tensor {
        Tensor { storage: allocation.into_storage(), layout, label: None }
    }

    pub(crate) fn with_layout(&self, layout: Layout) -> Tensor {
        Tensor { storage: Arc::clone(&self.storage), layout, label: self.label.clone() }
    }

    /// The elements for an operation that runs on the CPU.
    pub(crate) fn buffer(&self, op: &'static str, cx: &OpContext) -> Result<&Buffer, TensorError> {
        self.storage.bring_home(op, cx)
    }

    /// The elements of a tensor that [`Tensor::buffer`] has been asked for before.
    pub(crate) fn values<T: Stored>(&self) -> &[T] {
        self.storage.host().and_then(T::view).unwrap_or_default()
    }

    pub(crate) fn lengths_shape(&self) -> &Shape {
        &self.layout.shape
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor({} {})", self.dtype(), self.layout.shape)
    }
}

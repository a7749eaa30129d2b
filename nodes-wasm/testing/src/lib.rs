//! Honest nodes for tests of the host: each uses one power that the stock nodes do not.
//!
//! Not for users: the pack is never shipped.
//!
//! # Layout
//! - [`objects`]: objects and their methods, weights
//! - [`flow`]: lazy inputs, lists, blockers, expansions, undeclared inputs
//! - [`time`]: progress, and when a node runs again
//! - [`tensors`], [`pictures`]: tensor operations
//! - [`permitted`]: what needs a permission: numbers of weights, secrets, clocks
//! - [`work`]: work that takes long, graphs that grow, large values
//! - [`calls`], [`kernel`]: many host calls, many bytes, a loop over floats: for measuring

mod calls;
mod flow;
mod kernel;
mod objects;
mod permitted;
mod pictures;
mod tensors;
mod time;
mod work;

vivarium_node::pack! {
    name: "testing",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Vivarium",
    description: "Nodes for tests of the host.",
    license: "Apache-2.0",
    permissions: [
        ("models/checkpoints", "to read tensors out of model files"),
        ("models/vae", "to read tensors out of model files"),
        ("models/vae/values", "to read numbers out of model files"),
        ("secret/service-key", "to show that it can"),
        ("clock/fine", "to measure time"),
        ("http/127.0.0.1", "to ask servers of tests"),
        ("scratch", "to count"),
        ("input/photos", "to show what is there"),
    ],
    nodes: [
        objects::TestObjectMake,
        objects::TestObjectCall,
        objects::TestWeights,
        permitted::TestWeightValues,
        permitted::TestSecret,
        permitted::TestClock,
        permitted::TestHttp,
        permitted::TestScratch,
        permitted::TestFolder,
        permitted::TestFolderImage,
        flow::TestLazyMix,
        flow::TestBlocker,
        flow::TestList,
        flow::TestListSum,
        flow::TestExpand,
        flow::TestVariadic,
        flow::TestShow,
        time::TestSleepLoop,
        time::TestProgressText,
        time::TestAlways,
        time::TestError,
        tensors::TestTensorOps,
        work::TestWork,
        work::TestGrow,
        work::TestText,
        calls::TestHostCalls,
        calls::TestReadBytes,
        calls::TestWriteBytes,
        calls::TestKernel,
    ],
    objects: [objects::Counter],
}

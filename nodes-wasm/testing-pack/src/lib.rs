//! The classes that ComfyUI's own tests of its execution engine use: same names, inputs and outputs, written from what they
//! do. With this pack installed, those tests run unmodified against a Vivarium server.
//!
//! Not for users: the pack is never shipped. Two classes share state between nodes in ComfyUI (a table of busy resources, a
//! semaphore). A sandboxed node has no such state, so here they only wait; their documentation says what is missing.
//!
//! # Layout
//! - [`stubs`]: images, masks and numbers out of nothing
//! - [`images`]: lazy inputs, undeclared inputs, fingerprints, outputs that go on
//! - [`validation`]: checks of a class's own
//! - [`expansions`]: nodes that answer with nodes
//! - [`lists`]: lists and accumulations; [`logic`]: conditions; [`numbers`]: whole numbers
//! - [`blocker`], [`while_loop`], [`for_loop`]: flow
//! - [`waiting`], [`asynchronous`]: nodes that wait beside others
//! - [`variants`]: type checks of links that a class does by itself

mod asynchronous;
mod blocker;
mod expansions;
mod for_loop;
mod images;
mod lists;
mod logic;
mod numbers;
mod stubs;
mod validation;
mod variants;
mod waiting;
mod while_loop;

vivarium_node::pack! {
    name: "testing-pack",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Vivarium",
    description: "The node classes that ComfyUI's own execution tests use.",
    license: "Apache-2.0",
    nodes: [
        images::TestLazyMixImages,
        images::TestVariadicAverage,
        images::TestCustomIsChanged,
        images::TestIsChangedWithConstants,
        images::TestOutputNodeWithSocketOutput,
        validation::TestCustomValidation1,
        validation::TestCustomValidation2,
        validation::TestCustomValidation3,
        validation::TestCustomValidation4,
        validation::TestCustomValidation5,
        expansions::TestDynamicDependencyCycle,
        expansions::TestMixedExpansionReturns,
        expansions::TestSamplingInExpansion,
        expansions::TestParallelSleep,
        expansions::TestDynamicAsyncGeneration,
        stubs::StubImage,
        stubs::StubConstantImage,
        stubs::StubMask,
        stubs::StubInt,
        stubs::StubFloat,
        lists::TestAccumulateNode,
        lists::TestAccumulationHeadNode,
        lists::TestAccumulationTailNode,
        lists::TestAccumulationToListNode,
        lists::TestListToAccumulationNode,
        lists::TestAccumulationGetLengthNode,
        lists::TestAccumulationGetItemNode,
        lists::TestAccumulationSetItemNode,
        lists::TestMakeListNode,
        numbers::TestIntMathOperation,
        logic::TestIntConditions,
        logic::TestFloatConditions,
        logic::TestStringConditions,
        logic::TestToBoolNode,
        logic::TestBoolOperationNode,
        while_loop::TestWhileLoopOpen,
        while_loop::TestWhileLoopClose,
        for_loop::TestForLoopOpen,
        for_loop::TestForLoopClose,
        blocker::TestExecutionBlocker,
        waiting::TestSleep,
        waiting::TestAsyncProgressUpdate,
        waiting::TestSyncProgressUpdate,
        asynchronous::TestAsyncValidation,
        asynchronous::TestAsyncValidationError,
        asynchronous::TestAsyncError,
        asynchronous::TestAsyncTimeout,
        asynchronous::TestSyncError,
        asynchronous::TestAsyncLazyCheck,
        asynchronous::TestAsyncResourceUser,
        asynchronous::TestAsyncBatchProcessing,
        asynchronous::TestAsyncConcurrentLimit,
    ],
}

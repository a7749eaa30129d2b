//! The simulated cuBLASLt against calls that are wrong on purpose: each must be told, or the tests of `cuda_cublaslt.rs` would
//! prove little. In a process of its own, since a mistake spoils the device.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use cudarc::cublaslt::{result, sys};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use std::sync::Arc;

type Break = fn(&mut Call);

/// Calls that are wrong in one way, and what is said of each.
const BROKEN: &[(&str, Break, &str)] = &[
    ("nothing", |_| {}, ""),
    ("columns wider than the operand", |call| call.leading = 40, "OutOfBounds"),
    ("a batch longer than the operand", |call| call.batch = 2, "OutOfBounds"),
    ("an operand that begins too late", |call| call.shift = 256, "OutOfBounds"),
    ("an operand that nobody wrote", |call| call.written = false, "Uninitialised"),
    ("an operand that was freed", |call| call.freed = true, "no buffer"),
    ("a result in memory of another stream", |call| call.own_result = false, "ForeignBuffer"),
    ("an operand that another stream still writes", |call| call.waits = false, "Order"),
    ("a result over an operand", |call| call.in_place = true, "over an operand"),
    ("an alignment that does not hold", |call| (call.shift, call.rows) = (4, 31), "Misaligned"),
    ("too little workspace", |call| call.workspace = 16, "workspace"),
    ("an algorithm for another product", |call| call.other_algorithm = true, "not found for this product"),
    ("a layout that was destroyed", |call| call.destroyed = true, "a layout that is none"),
];

/// 32×32 float32 matrices, and what is done wrong.
struct Call {
    rows: u64,
    leading: i64,
    batch: i32,
    /// Bytes from the start of the first operand.
    shift: u64,
    written: bool,
    freed: bool,
    own_result: bool,
    waits: bool,
    in_place: bool,
    workspace: usize,
    other_algorithm: bool,
    destroyed: bool,
}

const RIGHT: Call = Call {
    rows: 32,
    leading: 32,
    batch: 1,
    shift: 0,
    written: true,
    freed: false,
    own_result: true,
    waits: true,
    in_place: false,
    workspace: 4096,
    other_algorithm: false,
    destroyed: false,
};

const BYTES: usize = 32 * 32 * 4;

type Layout = sys::cublasLtMatrixLayout_t;

#[allow(unsafe_code)]
fn layout(rows: u64, leading: i64, batch: i32) -> Layout {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let layout = result::create_matrix_layout(sys::cudaDataType::CUDA_R_32F, rows, 32, leading).unwrap();
    let step = 32 * leading;
    let (count, offset) =
        (Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
    // SAFETY: the layout was just made, and the values have the types of the attributes.
    unsafe {
        result::set_matrix_layout_attribute(layout, count, (&raw const batch).cast(), 4).unwrap();
        result::set_matrix_layout_attribute(layout, offset, (&raw const step).cast(), 8).unwrap();
    }
    layout
}

#[allow(unsafe_code)]
fn buffer(stream: &Arc<CudaStream>, written: bool) -> CudaSlice<u8> {
    // SAFETY: bytes have no invalid values; whether anybody wrote them is what is tested.
    let mut buffer = unsafe { stream.alloc::<u8>(BYTES) }.unwrap();
    if written {
        stream.memset_zeros(&mut buffer).unwrap();
    }
    buffer
}

/// The address, without what `cudarc` would do for order.
fn address(slice: &CudaSlice<u8>) -> u64 {
    slice.device_ptr(slice.stream()).0
}

#[allow(unsafe_code)]
fn run(call: &Call, context: &Arc<CudaContext>) {
    use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
    let (stream, other) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let left = buffer(if call.waits { &stream } else { &other }, call.written);
    let right = buffer(&stream, true);
    let mut out = buffer(if call.own_result { &stream } else { &other }, false);
    let mut workspace = buffer(&stream, false);
    let handle = result::create_handle().unwrap();
    let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
    let description = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F).unwrap();
    let layouts = [
        layout(call.rows, call.leading, call.batch),
        layout(32, 32, call.batch),
        layout(call.rows, 32, call.batch),
        layout(16, 32, call.batch),
    ];
    let preference = result::create_matmul_pref().unwrap();
    let (bytes, left_place) = (BYTES, address(&left) + call.shift);
    let out_place = if call.in_place { address(&right) } else { out.device_ptr_mut(&out.stream().clone()).0 };
    let (workspace_place, _) = workspace.device_ptr_mut(&stream);
    if call.freed {
        drop(left);
    }
    // SAFETY: what is wrong here on purpose is made of numbers that only the simulated library looks at.
    unsafe {
        let most = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        result::set_matmul_pref_attribute(preference, most, (&raw const bytes).cast(), 8).unwrap();
        let [a, b, out, half] = layouts;
        let chosen = if call.other_algorithm { [half, half] } else { [a, out] };
        let find = |[a, out]: [Layout; 2]| {
            result::get_matmul_algo_heuristic(handle, description, a, b, out, out, preference).unwrap()
        };
        let found = find(chosen);
        let (one, zero) = (1.0f32, 0.0f32);
        if call.destroyed {
            result::destroy_matrix_layout(a).unwrap();
        }
        let _ = result::matmul(
            handle,
            description,
            (&raw const one).cast(),
            (&raw const zero).cast(),
            left_place as *const _,
            a,
            address(&right) as *const _,
            b,
            out_place as *const _,
            out,
            out_place as *mut _,
            out,
            &raw const found.algo,
            workspace_place as *mut _,
            call.workspace,
            stream.cu_stream().cast(),
        );
        layouts.into_iter().skip(usize::from(call.destroyed)).for_each(|layout| {
            result::destroy_matrix_layout(layout).unwrap();
        });
        result::destroy_matmul_pref(preference).unwrap();
        result::destroy_matmul_desc(description).unwrap();
        result::destroy_handle(handle).unwrap();
    }
}

/// A function of the simulated driver, if it is the simulated one.
#[allow(unsafe_code)]
fn simulated(name: &std::ffi::CStr) -> Option<*mut std::ffi::c_void> {
    // SAFETY: a library that is loaded already, and a name in it.
    let found = unsafe { libc::dlsym(libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Everything that was found so far, which is forgotten then.
#[allow(unsafe_code)]
fn faults() -> String {
    let found = simulated(c"simulatedCudaFaults").unwrap();
    // SAFETY: the function of that name fills so many bytes at most and answers how many.
    let function: extern "C" fn(*mut u8, usize) -> usize = unsafe { std::mem::transmute(found) };
    let mut text = vec![0; 1 << 12];
    let length = function(text.as_mut_ptr(), text.len());
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[allow(unsafe_code)]
fn descriptors() -> usize {
    let found = simulated(c"simulatedCublasDescriptors").unwrap();
    // SAFETY: the function of that name takes nothing and answers a number.
    let function: extern "C" fn() -> usize = unsafe { std::mem::transmute(found) };
    function()
}

/// `cudarc` takes a context for bound whose handle is that of one before.
#[allow(unsafe_code)]
fn bind(context: &CudaContext) {
    // SAFETY: the context is held.
    unsafe { cudarc::driver::result::ctx::set_current(context.cu_ctx()) }.unwrap();
}

#[test]
fn every_broken_call_is_told() {
    let wanted = std::env::var("VIVARIUM_TEST_CUBLASLT").is_ok_and(|value| value == "1");
    if !wanted || simulated(c"simulatedCublasDescriptors").is_none() {
        return;
    }
    for (what, breaks, told) in BROKEN {
        let context = CudaContext::new(0).unwrap();
        bind(&context);
        let mut call = Call { ..RIGHT };
        breaks(&mut call);
        run(&call, &context);
        let found = faults();
        assert!(if told.is_empty() { found.is_empty() } else { found.contains(told) }, "{what}: {found:?}");
        assert_eq!(descriptors(), 0, "{what} leaves descriptors behind");
    }
    // The library's own user leaves nothing behind either.
    let Some(gpu) = support::test_gpu() else { return };
    let (cx, _) = support::budgeted(1 << 26);
    let x = support::random(&[96, 96], vivarium_tensor::DType::Float32, 1);
    x.matmul(&x, &cx).unwrap();
    assert_eq!((gpu.counters().library_products, descriptors()), (1, 0));
}

// For every element of the result: the index at its place, and the element that it names. Indices were checked before.

struct Arguments {
    const ELEMENT* from;
    ELEMENT* out;
    View index;
    i64 offset, step;
    u64 elements;
    i64 lengths[MAX_RANK], strides[MAX_RANK];
    i64 rank;
};

extern "C" __global__ void __launch_bounds__(256) gather(const Arguments x) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += stride) {
        u64 left = i;
        i64 at = x.offset, index = x.index.offset;
        for (int d = x.rank - 1; d >= 0; d--) {
            i64 place = left % x.lengths[d];
            left /= x.lengths[d];
            at += place * x.strides[d];
            index += place * x.index.strides[d];
        }
        x.out[i] = x.from[at + load<i64>(x.index.data, x.index.dtype, index) * x.step];
    }
}

// Elements of `source` written to, or added at, the places that `index` names. Indices were checked before.
//
// STEP: of several for one place the last stays, so CLAIM first notes the number of the last at every place (counted from 1),
// and WRITE writes that alone. ADD adds, in whatever order the threads come: integers wrap, so it does not matter to them;
// sums of floats may be rounded differently from run to run where more than two meet.

#define CLAIM 0
#define WRITE 1
#define ADD 2

struct Arguments {
    void* out;
    const u32* claims;
    View index, source;
    u64 elements;
    // Of the index; strides of the result, with that of the dimension that the index replaces apart.
    i64 lengths[MAX_RANK], strides[MAX_RANK];
    i64 step;
    i64 rank;
};

extern "C" __global__ void __launch_bounds__(256) scatter(const Arguments x) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += stride) {
        u64 left = i;
        i64 target = 0, index = x.index.offset, source = x.source.offset;
        for (int d = x.rank - 1; d >= 0; d--) {
            i64 place = left % x.lengths[d];
            left /= x.lengths[d];
            target += place * x.strides[d];
            index += place * x.index.strides[d];
            source += place * x.source.strides[d];
        }
        target += load<i64>(x.index.data, x.index.dtype, index) * x.step;
#if STEP == CLAIM
        atomicMax((u32*)x.out + target, (u32)i + 1);
#elif STEP == WRITE
        if (x.claims[target] == (u32)i + 1) ((ELEMENT*)x.out)[target] = ((const ELEMENT*)x.source.data)[source];
#elif defined(FLOATS)
        atomicAdd((float*)x.out + target, load<float>(x.source.data, x.source.dtype, source));
#else
        atomicAdd((u64*)x.out + target, (u64)load<i64>(x.source.data, x.source.dtype, source));
#endif
    }
}

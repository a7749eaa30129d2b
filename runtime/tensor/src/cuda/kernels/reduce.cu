// Folds elements along some dimensions. SHARE threads work on one result: a warp or a block. Elements are read as VALUE
// and folded as FOLD, from START by STEP(fold, v); JOIN(a, b) merges, FINISH(fold) answers.

struct Arguments {
    void* out;
    View in;
    u64 results, elements;
    double divisor;
    i64 kept_lengths[MAX_RANK], kept_strides[MAX_RANK], lengths[MAX_RANK], strides[MAX_RANK];
    i64 kept_rank, rank, dtype;
};

extern "C" __global__ void __launch_bounds__(256) reduce(const Arguments x) {
    const int lane = threadIdx.x % SHARE;
    const u64 result = (u64)blockIdx.x * (256 / SHARE) + threadIdx.x / SHARE;
    i64 base = x.in.offset;
    u64 left = result;
    for (int d = x.kept_rank - 1; d >= 0; d--) {
        base += (i64)(left % x.kept_lengths[d]) * x.kept_strides[d];
        left /= x.kept_lengths[d];
    }
    FOLD fold = START;
    if (result < x.results) {
        for (u64 e = lane; e < x.elements; e += SHARE) {
            i64 at = base;
            u64 rest = e;
            for (int d = x.rank - 1; d > 0; d--) {
                at += (i64)(rest % x.lengths[d]) * x.strides[d];
                rest /= x.lengths[d];
            }
            at += (i64)rest * x.strides[0];
            VALUE v = load<VALUE>(x.in.data, x.in.dtype, at);
            fold = STEP(fold, v);
        }
    }
    for (int by = 16; by > 0; by /= 2) {
        FOLD other = __shfl_xor_sync(0xffffffff, fold, by);
        fold = JOIN(fold, other);
    }
#if SHARE == 256
    __shared__ FOLD partial[8];
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = fold;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 8; i++) fold = JOIN(fold, partial[i]);
    }
#endif
    if (lane == 0 && result < x.results) store(x.out, x.dtype, (i64)result, (VALUE)(FINISH(fold)));
}

// How many elements of each row fall into each of `bins` even parts. A block counts a piece of one row: in shared memory, if there
// is room for its SHARED bins, and adds that to what others counted.

struct Arguments {
    u64* out;
    View in;
    // Of a row, and of a piece of it.
    i64 length, piece;
    i64 bins;
    double low, high;
};

extern "C" __global__ void __launch_bounds__(256) histogram(const Arguments x) {
    const i64 pieces = (x.length + x.piece - 1) / x.piece;
    const i64 row = blockIdx.x / pieces, start = blockIdx.x % pieces * x.piece, end = min(start + x.piece, x.length);
    u64* out = x.out + row * x.bins;
#ifdef SHARED
    __shared__ u32 counts[SHARED];
    for (i64 bin = threadIdx.x; bin < x.bins; bin += blockDim.x) counts[bin] = 0;
    __syncthreads();
#endif
    for (i64 at = start + threadIdx.x; at < end; at += blockDim.x) {
        double value = (double)load<float>(x.in.data, x.in.dtype, x.in.offset + row * x.length + at);
        if (!(value >= x.low && value <= x.high)) continue;
        i64 bin = min((i64)((value - x.low) / (x.high - x.low) * (double)x.bins), x.bins - 1);
#ifdef SHARED
        atomicAdd(counts + bin, 1u);
    }
    __syncthreads();
    for (i64 bin = threadIdx.x; bin < x.bins; bin += blockDim.x) {
        if (counts[bin] > 0) atomicAdd(out + bin, (u64)counts[bin]);
    }
#else
        atomicAdd(out + bin, 1ULL);
    }
#endif
}

// Where the best element of each row is: not-a-number before all numbers, then the better one by BETTER, the first of equals.
// SHARE threads work on one row: a warp or a block. Elements are read as VALUE.

struct Arguments {
    i64* out;
    View in;
    u64 rows;
    i64 length;
};

// Whether element `a` of place `i` comes before `b` of place `j`. A place of -1 is none.
__device__ __forceinline__ bool precedes(VALUE a, i64 i, VALUE b, i64 j) {
    if (i < 0 || j < 0) return j < 0 && i >= 0;
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a BETTER b || (a == b && i < j);
}

extern "C" __global__ void __launch_bounds__(256) argmax(const Arguments x) {
    const int lane = threadIdx.x % SHARE;
    const u64 row = (u64)blockIdx.x * (256 / SHARE) + threadIdx.x / SHARE;
    VALUE best = 0;
    i64 place = -1;
    if (row < x.rows) {
        for (i64 at = lane; at < x.length; at += SHARE) {
            VALUE value = load<VALUE>(x.in.data, x.in.dtype, x.in.offset + (i64)row * x.length + at);
            if (precedes(value, at, best, place)) {
                best = value;
                place = at;
            }
        }
    }
    for (int by = 16; by > 0; by /= 2) {
        VALUE other = __shfl_xor_sync(0xffffffff, best, by);
        i64 there = __shfl_xor_sync(0xffffffff, place, by);
        if (precedes(other, there, best, place)) {
            best = other;
            place = there;
        }
    }
#if SHARE == 256
    __shared__ VALUE values[8];
    __shared__ i64 places[8];
    if (threadIdx.x % 32 == 0) {
        values[threadIdx.x / 32] = best;
        places[threadIdx.x / 32] = place;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 8; i++) {
            if (precedes(values[i], places[i], best, place)) {
                best = values[i];
                place = places[i];
            }
        }
    }
#endif
    if (lane == 0 && row < x.rows) x.out[row] = place;
}

// Along rows that lie one after the other: each element joined with all before it. SHARE threads work on one row, a warp or a
// block, so many elements at a time. Elements are read as VALUE and joined as FOLD, from START by JOIN(a, b).

struct Arguments {
    void* out;
    View in;
    u64 rows;
    i64 length;
    i64 dtype;
};

extern "C" __global__ void __launch_bounds__(256) scan(const Arguments x) {
    const int lane = threadIdx.x % SHARE, warp = threadIdx.x / 32;
    const u64 row = (u64)blockIdx.x * (256 / SHARE) + threadIdx.x / SHARE;
    const i64 base = (i64)row * x.length;
    FOLD carry = START;
    for (i64 tile = 0; tile < x.length; tile += SHARE) {
        const bool inside = row < x.rows && tile + lane < x.length;
        FOLD value = inside ? (FOLD)load<VALUE>(x.in.data, x.in.dtype, x.in.offset + base + tile + lane) : (FOLD)START;
        for (int by = 1; by < 32; by *= 2) {
            FOLD before = __shfl_up_sync(0xffffffff, value, by);
            if (threadIdx.x % 32 >= by) value = JOIN(before, value);
        }
#if SHARE == 256
        __shared__ FOLD totals[8];
        if (threadIdx.x % 32 == 31) totals[warp] = value;
        __syncthreads();
        FOLD before = carry;
        for (int i = 0; i < 8; i++) {
            if (i < warp) before = JOIN(before, totals[i]);
            carry = JOIN(carry, totals[i]);
        }
        value = JOIN(before, value);
        // The totals are read before the next tile's are written.
        __syncthreads();
#else
        value = JOIN(carry, value);
        carry = __shfl_sync(0xffffffff, value, 31);
#endif
        if (inside) store(x.out, x.dtype, base + tile + lane, (VALUE)value);
    }
}

// Numbers that depend on nothing but their place. SERIES says which: a progression, or Philox's uniform or normal ones.

#define PROGRESSION 0
#define UNIFORM 1
#define NORMAL 2

struct Arguments {
    float* out;
    u64 elements;
    // The first `from_start` numbers are start + i·step, the others count back from `end`.
    double start, end, step;
    u64 from_start;
    u32 key[2];
};

// Philox 4×32-10: four numbers for each value of a counter.
__device__ __forceinline__ void philox(u64 counter, u32 key0, u32 key1, u32 (&c)[4]) {
    c[0] = (u32)counter;
    c[1] = (u32)(counter >> 32);
    c[2] = c[3] = 0;
    for (int round = 0; round < 10; round++) {
        u32 high0 = __umulhi(0xd2511f53u, c[0]), low0 = 0xd2511f53u * c[0];
        u32 high1 = __umulhi(0xcd9e8d57u, c[2]), low1 = 0xcd9e8d57u * c[2];
        c[0] = high1 ^ c[1] ^ key0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ key1;
        c[3] = low0;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

__device__ __forceinline__ float unit(u32 bits) { return (float)(bits & 0xffffff) / 16777216.0f; }

extern "C" __global__ void __launch_bounds__(256) create(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    const u64 first = (u64)blockIdx.x * blockDim.x + threadIdx.x;
#if SERIES == PROGRESSION
    for (u64 i = first; i < x.elements; i += step) {
        double value = i < x.from_start ? x.start + (double)i * x.step : x.end - (double)(x.elements - 1 - i) * x.step;
        x.out[i] = (float)value;
    }
#else
    // Four numbers for each thread.
    for (u64 block = first; block * 4 < x.elements; block += step) {
        u32 bits[4];
        philox(block, x.key[0], x.key[1], bits);
        float numbers[4];
        for (int pair = 0; pair < 4; pair += 2) {
#if SERIES == UNIFORM
            numbers[pair] = unit(bits[pair]);
            numbers[pair + 1] = unit(bits[pair + 1]);
#else
            float radius = sqrtf(-2.0f * logf(1.0f - unit(bits[pair])));
            float angle = 6.2831855f * unit(bits[pair + 1]);
            numbers[pair] = radius * cosf(angle);
            numbers[pair + 1] = radius * sinf(angle);
#endif
        }
        for (int lane = 0; lane < 4; lane++) {
            if (block * 4 + lane < x.elements) x.out[block * 4 + lane] = numbers[lane];
        }
    }
#endif
}

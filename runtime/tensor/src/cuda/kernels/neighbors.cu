// What lies around each pixel of row-major planes, one thread for each. WORK: the EXTREME of the places that a table names,
// or the MEDIAN of a window.

#define EXTREME 0
#define MEDIAN 1
// BORDER
#define CONSTANT 0
#define REFLECT 1
#define REPLICATE 2
#define CIRCULAR 3

struct Arguments {
    void* out;
    View in;
    // Rows down and columns right of each place that is seen.
    const int* places;
    u64 elements;
    i64 seen;
    i64 size[2], window[2];
    i64 dtype;
};

__device__ __forceinline__ float pixel(const Arguments& x, i64 at) { return load<float>(x.in.data, x.in.dtype, x.in.offset + at); }

#if WORK == EXTREME
__device__ __forceinline__ float of(const Arguments& x, i64 plane, i64 row, i64 column) {
    float extreme = BETTER(1, 0) ? -INFINITY : INFINITY;
    for (i64 i = 0; i < x.seen; i++) {
        i64 y = row + x.places[2 * i], side = column + x.places[2 * i + 1];
        if (y < 0 || y >= x.size[0] || side < 0 || side >= x.size[1]) continue;
        float value = pixel(x, plane + y * x.size[1] + side);
        if (BETTER(value, extreme)) extreme = value;
    }
    return extreme;
}
#else
// The place that is seen at a position beyond the border, or -1.
__device__ __forceinline__ i64 inside(i64 position, i64 length) {
    if (position >= 0 && position < length) return position;
    if (BORDER == CONSTANT) return -1;
    if (BORDER == REPLICATE) return position < 0 ? 0 : length - 1;
    i64 period = BORDER == CIRCULAR ? length : max(2 * (length - 1), 1LL);
    i64 place = position % period;
    if (place < 0) place += period;
    return BORDER == REFLECT && place > length - 1 ? period - place : place;
}

// Two bits of the median's key at a time: those below which as many keys lie as are sought. The window is read again for each,
// which takes no memory, whatever its size.
__device__ __forceinline__ float of(const Arguments& x, i64 plane, i64 row, i64 column) {
    u32 key = 0;
    i64 sought = x.window[0] * x.window[1] / 2;
    for (int bit = 30; bit >= 0; bit -= 2) {
        i64 counts[3] = {0, 0, 0};
        for (i64 down = 0; down < x.window[0]; down++) {
            i64 y = inside(row + down - x.window[0] / 2, x.size[0]);
            for (i64 right = 0; right < x.window[1]; right++) {
                i64 side = inside(column + right - x.window[1] / 2, x.size[1]);
                float value = y < 0 || side < 0 ? 0.0f : pixel(x, plane + y * x.size[1] + side);
                u32 rest = ordered_bits(value) >> bit;
                if (rest >> 2 != key >> bit >> 2) continue;
                counts[0] += (rest & 3) == 0;
                counts[1] += (rest & 3) == 1;
                counts[2] += (rest & 3) == 2;
            }
        }
        u32 digit = 0;
        while (digit < 3 && sought >= counts[digit]) sought -= counts[digit++];
        key |= digit << bit;
    }
    return from_ordered_bits(key);
}
#endif

extern "C" __global__ void __launch_bounds__(256) neighbors(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += step) {
        i64 column = (i64)i % x.size[1], row = (i64)i / x.size[1] % x.size[0];
        store(x.out, x.dtype, (i64)i, of(x, (i64)i - row * x.size[1] - column, row, column));
    }
}

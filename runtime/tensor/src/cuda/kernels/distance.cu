// How far the nearest zero of a plane is. STEP: COLUMNS counts how many rows away the nearest zero of a column is, one thread for
// each column; ROWS looks for the nearest place, one thread for each element. It goes outwards until no farther column can be nearer, so
// that it is as quick as zeros are near. Squares are whole numbers, as exact as on the CPU.

#define COLUMNS 0
#define ROWS 1

struct Arguments {
    float* out;
    // Whether there is a zero, for COLUMNS; their result, for ROWS.
    View in;
    u64 items;
    i64 height, width;
};

#if STEP == COLUMNS
__device__ __forceinline__ void item(const Arguments& x, u64 i) {
    i64 base = (i64)i / x.width * x.height * x.width + (i64)i % x.width;
    float rows = INFINITY;
    for (i64 y = 0; y < x.height; y++) {
        i64 at = base + y * x.width;
        rows = ((const u8*)x.in.data)[x.in.offset + at] ? 0.0f : rows + 1.0f;
        x.out[at] = rows;
    }
    for (i64 y = x.height - 2; y >= 0; y--) {
        i64 at = base + y * x.width;
        rows = fminf(x.out[at], rows + 1.0f);
        x.out[at] = rows;
    }
}
#else
__device__ __forceinline__ void item(const Arguments& x, u64 i) {
    const float* line = (const float*)x.in.data + x.in.offset + (i64)i / x.width * x.width;
    const i64 column = (i64)i % x.width, none = 0x7fffffffffffffffLL;
    i64 nearest = none;
    for (i64 aside = 0; aside < x.width && aside * aside < nearest; aside++) {
        for (int side = -1; side <= 1; side += 2) {
            i64 place = column + side * aside;
            if (place < 0 || place >= x.width || line[place] == INFINITY) continue;
            i64 rows = (i64)line[place];
            nearest = min(nearest, aside * aside + rows * rows);
        }
    }
    x.out[i] = nearest == none ? INFINITY : (float)sqrt((double)nearest);
}
#endif

extern "C" __global__ void __launch_bounds__(256) distance(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.items; i += step) item(x, i);
}

// WORK: pixels looked up at places that a grid names (SAMPLE, one thread for each element of a channels-last result), or such a
// grid made of matrices (AFFINE, one thread for each of its places). All in the CPU's order, rounded at every step.

#define SAMPLE 0
#define AFFINE 1
// MODE
#define NEAREST 0
#define BILINEAR 1
#define BICUBIC 2
// BORDER
#define ZEROS 0
#define EDGE 1
#define REFLECTION 2

struct Arguments {
    void* out;
    // Of pixels [B,C,H,W] and places [B,h,w,2]; or of matrices [B,2,3].
    View in, grid;
    u64 items;
    i64 channels, height, width, grid_height, grid_width;
    int align_corners, dtype;
};

#if WORK == SAMPLE
// From −1…1 to pixels.
__device__ __forceinline__ float to_pixels(const Arguments& x, float place, i64 pixels) {
    float length = (float)pixels;
    return x.align_corners ? (place + 1.0f) / 2.0f * (length - 1.0f) : ((place + 1.0f) * length - 1.0f) / 2.0f;
}

__device__ __forceinline__ float limited(float place, float last) { return fminf(fmaxf(place, 0.0f), last); }

__device__ __forceinline__ float reflected(float place, float low, float high) {
    float span = high - low;
    if (span == 0.0f) return 0.0f;
    float distance = fabsf(place - low), rest = fmodf(distance, span), flips = floorf(distance / span);
    return fmodf(flips, 2.0f) == 0.0f ? low + rest : high - rest;
}

// Where a place beyond the border is looked up.
__device__ __forceinline__ float inside(const Arguments& x, float place, i64 pixels) {
    float last = (float)pixels - 1.0f;
    if (BORDER == ZEROS) return place;
    if (BORDER == EDGE) return limited(place, last);
    return limited(x.align_corners ? reflected(place, 0.0f, last) : reflected(place, -0.5f, last + 0.5f), last);
}

// The parts that four neighbours have in a place that is `t` behind the second.
__device__ __forceinline__ float cubic(int neighbour, float t) {
    const float a = -0.75f;
    bool far = neighbour == 0 || neighbour == 3;
    float d = neighbour == 0 ? t + 1.0f : neighbour == 1 ? t : neighbour == 2 ? 1.0f - t : 2.0f - t;
    if (far) return ((a * d - 5.0f * a) * d + 8.0f * a) * d - 4.0f * a;
    return ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f;
}

// A part of one pixel, if there is one. Not-a-number is nowhere.
__device__ __forceinline__ float add(const Arguments& x, i64 base, float column, float row, float part, float sum) {
    if (!(column >= 0.0f && row >= 0.0f && column < (float)x.width && row < (float)x.height)) return sum;
    i64 at = base + (i64)row * x.in.strides[2] + (i64)column * x.in.strides[3];
    return sum + load<float>(x.in.data, x.in.dtype, at) * part;
}

__device__ __forceinline__ void item(const Arguments& x, u64 i) {
    i64 channel = (i64)i % x.channels, place = (i64)i / x.channels;
    i64 batch = place / x.grid_width / x.grid_height;
    i64 grid = x.grid.offset + batch * x.grid.strides[0] + place / x.grid_width % x.grid_height * x.grid.strides[1] +
               place % x.grid_width * x.grid.strides[2];
    float column = to_pixels(x, load<float>(x.grid.data, x.grid.dtype, grid), x.width);
    float row = to_pixels(x, load<float>(x.grid.data, x.grid.dtype, grid + x.grid.strides[3]), x.height);
    i64 base = x.in.offset + batch * x.in.strides[0] + channel * x.in.strides[1];
    float sum = 0.0f;
    if (MODE == NEAREST) {
        sum = add(x, base, rintf(inside(x, column, x.width)), rintf(inside(x, row, x.height)), 1.0f, sum);
    } else if (MODE == BILINEAR) {
        column = inside(x, column, x.width);
        row = inside(x, row, x.height);
        float left = floorf(column), top = floorf(row), right = column - left, below = row - top;
        for (int pixel = 0; pixel < 4; pixel++) {
            float part_y = pixel < 2 ? 1.0f - below : below, part_x = pixel % 2 == 0 ? 1.0f - right : right;
            sum = add(x, base, left + (float)(pixel % 2), top + (float)(pixel / 2), part_x * part_y, sum);
        }
    } else {
        float left = floorf(column), top = floorf(row);
        for (int pixel = 0; pixel < 16; pixel++) {
            float y = inside(x, top + (float)(pixel / 4 - 1), x.height), side = inside(x, left + (float)(pixel % 4 - 1), x.width);
            sum = add(x, base, side, y, cubic(pixel % 4, column - left) * cubic(pixel / 4, row - top), sum);
        }
    }
    store(x.out, x.dtype, (i64)i, sum);
}
#else
// From a pixel to −1…1.
__device__ __forceinline__ float to_place(const Arguments& x, i64 index, i64 pixels) {
    float length = (float)pixels;
    float steps = x.align_corners ? fmaxf(length - 1.0f, 1.0f) : length;
    float offset = x.align_corners ? (length > 1.0f ? 1.0f : 0.0f) : 1.0f - 1.0f / length;
    return 2.0f * (float)index / steps - offset;
}

__device__ __forceinline__ void item(const Arguments& x, u64 i) {
    float side = to_place(x, (i64)i % x.grid_width, x.grid_width);
    float down = to_place(x, (i64)i / x.grid_width % x.grid_height, x.grid_height);
    i64 matrix = x.in.offset + (i64)i / x.grid_width / x.grid_height * x.in.strides[0];
    for (int row = 0; row < 2; row++) {
        float part[3];
        for (int at = 0; at < 3; at++) {
            part[at] = load<float>(x.in.data, x.in.dtype, matrix + row * x.in.strides[1] + at * x.in.strides[2]);
        }
        store(x.out, x.dtype, (i64)i * 2 + row, part[0] * side + part[1] * down + part[2]);
    }
}
#endif

extern "C" __global__ void __launch_bounds__(256) sample(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.items; i += step) item(x, i);
}

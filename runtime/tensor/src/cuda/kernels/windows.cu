// Windows over planes of row-major `in`: pooled (the largest, or the mean), or laid over a picture and added up. One thread
// for each element of the result; it looks at all windows' elements that make it, in the CPU's order.

#define LARGEST 0
#define MEAN 1
#define FOLD 2

struct Arguments {
    void* out;
    View in;
    u64 elements;
    // Height first. `size` is the picture's, `counts` how many windows there are.
    i64 size[2], counts[2], window[2], stride[2], padding[2], dilation[2];
    int count_padding;
    int dtype;
};

__device__ __forceinline__ float element(const Arguments& x, i64 at) { return load<float>(x.in.data, x.in.dtype, x.in.offset + at); }

#if WORK == FOLD
// The pixel (plane, row, column) of a picture.
__device__ __forceinline__ float folded(const Arguments& x, i64 plane, i64 row, i64 column) {
    float sum = 0.0f;
    for (i64 y = 0; y < x.window[0]; y++) {
        i64 down = row + x.padding[0] - y * x.dilation[0];
        if (down < 0 || down % x.stride[0] != 0 || down / x.stride[0] >= x.counts[0]) continue;
        for (i64 side = 0; side < x.window[1]; side++) {
            i64 right = column + x.padding[1] - side * x.dilation[1];
            if (right < 0 || right % x.stride[1] != 0 || right / x.stride[1] >= x.counts[1]) continue;
            i64 tap = (plane * x.window[0] + y) * x.window[1] + side;
            sum += element(x, (tap * x.counts[0] + down / x.stride[0]) * x.counts[1] + right / x.stride[1]);
        }
    }
    return sum;
}
#else
// The window (row, column) of a plane, as far as it lies inside.
__device__ __forceinline__ float pooled(const Arguments& x, i64 plane, i64 row, i64 column) {
    i64 low[2] = {row * x.stride[0] - x.padding[0], column * x.stride[1] - x.padding[1]};
    i64 high[2];
    for (int axis = 0; axis < 2; axis++) {
        high[axis] = min(low[axis] + x.window[axis], x.size[axis]);
        low[axis] = max(low[axis], 0LL);
    }
    float largest = -INFINITY;
    double sum = 0.0;
    for (i64 y = low[0]; y < high[0]; y++) {
        for (i64 side = low[1]; side < high[1]; side++) {
            float v = element(x, (plane * x.size[0] + y) * x.size[1] + side);
            if (WORK == LARGEST) {
                largest = (v > largest || v != v) ? v : largest;
            } else {
                sum += (double)v;
            }
        }
    }
    i64 inside = (high[0] - low[0]) * (high[1] - low[1]);
    i64 count = x.count_padding ? x.window[0] * x.window[1] : inside;
    return WORK == LARGEST ? largest : (float)(sum / (double)count);
}
#endif

extern "C" __global__ void __launch_bounds__(256) windows(const Arguments x) {
    const i64 height = WORK == FOLD ? x.size[0] : x.counts[0], width = WORK == FOLD ? x.size[1] : x.counts[1];
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += step) {
        i64 column = (i64)i % width, row = (i64)i / width % height, plane = (i64)i / width / height;
#if WORK == FOLD
        float value = folded(x, plane, row, column);
#else
        float value = pooled(x, plane, row, column);
#endif
        store(x.out, x.dtype, (i64)i, value);
    }
}

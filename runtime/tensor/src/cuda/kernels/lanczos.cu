// Pillow's Lanczos filter on 8 bits, to the bit: weights in fixed point, AXIS after the other, each rounded to a byte. COLUMNS reads
// [images, height, width, channels] of any strides and writes bytes; ROWS reads those and writes floats. With alpha, the last
// channel, colours are multiplied by it before and divided after.

#define COLUMNS 0
#define ROWS 1

struct Arguments {
    void* out;
    // Pixels in the order above; unused for ROWS.
    View in;
    const u8* bytes;
    // Per place: the first tap, where its weights begin, and (one more) where they end. None where the length stays.
    const u32* firsts;
    const u32* starts;
    const int* weights;
    u64 elements;
    // Of the source: along this axis, and for ROWS the elements of a row.
    i64 length, row;
    // Of the result.
    i64 height, width, channels;
    int has_alpha, dtype;
};

__device__ __forceinline__ u8 rounded(int sum) {
    int value = sum >> 22;
    return (u8)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#if AXIS == COLUMNS
__device__ __forceinline__ u32 byte_of(const Arguments& x, i64 at) {
    float scaled = 255.0f * load<float>(x.in.data, x.in.dtype, at);
    return (u32)(scaled > 0.0f ? (scaled < 255.0f ? scaled : 255.0f) : 0.0f);
}

// A channel of a pixel as a byte.
__device__ __forceinline__ int source(const Arguments& x, i64 pixel, i64 channel) {
    u32 value = byte_of(x, pixel + channel * x.in.strides[3]);
    if (x.has_alpha && channel < x.channels - 1) {
        u32 product = value * byte_of(x, pixel + (x.channels - 1) * x.in.strides[3]) + 128;
        value = (product + (product >> 8)) >> 8;
    }
    return (int)value;
}

__device__ __forceinline__ void element(const Arguments& x, u64 i) {
    i64 channel = (i64)i % x.channels, column = (i64)i / x.channels % x.width, line = (i64)i / x.channels / x.width;
    i64 base = x.in.offset + line / x.height * x.in.strides[0] + line % x.height * x.in.strides[1];
    if (!x.weights) {
        ((u8*)x.out)[i] = (u8)source(x, base + column * x.in.strides[2], channel);
        return;
    }
    int sum = 1 << 21;
    i64 from = (i64)x.firsts[column] - (i64)x.starts[column];
    for (u32 tap = x.starts[column]; tap < x.starts[column + 1]; tap++) {
        sum += source(x, base + (from + tap) * x.in.strides[2], channel) * x.weights[tap];
    }
    ((u8*)x.out)[i] = rounded(sum);
}
#else
// The byte at one place of a row of a picture.
__device__ __forceinline__ u8 narrowed(const Arguments& x, i64 picture, i64 line, i64 at) {
    const u8* bytes = x.bytes + picture * x.length * x.row + at;
    if (!x.weights) return bytes[line * x.row];
    int sum = 1 << 21;
    i64 from = (i64)x.firsts[line] - (i64)x.starts[line];
    for (u32 tap = x.starts[line]; tap < x.starts[line + 1]; tap++) sum += (int)bytes[(from + tap) * x.row] * x.weights[tap];
    return rounded(sum);
}

__device__ __forceinline__ void element(const Arguments& x, u64 i) {
    i64 at = (i64)i % x.row, line = (i64)i / x.row % x.height, picture = (i64)i / x.row / x.height;
    u32 value = narrowed(x, picture, line, at);
    i64 channel = at % x.channels;
    if (x.has_alpha && channel < x.channels - 1) {
        u32 alpha = narrowed(x, picture, line, at - channel + x.channels - 1);
        if (alpha != 0 && alpha != 255) value = min(255 * value / alpha, 255u);
    }
    store(x.out, x.dtype, (i64)i, (float)value / 255.0f);
}
#endif

extern "C" __global__ void __launch_bounds__(256) lanczos(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += step) element(x, i);
}

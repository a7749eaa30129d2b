// Colours in other coordinates, one pixel of three row-major elements for each thread. PIXEL is one of these functions.

struct Arguments {
    void* out;
    View in;
    u64 pixels;
    i64 dtype;
};

__device__ __forceinline__ void rgb_to_hsv(float (&c)[3]) {
    float value = fmaxf(fmaxf(c[0], c[1]), c[2]), range = value - fminf(fminf(c[0], c[1]), c[2]);
    float sixths = c[0] == value ? (c[1] - c[2]) / range
                 : c[1] == value ? 2.0f + (c[2] - c[0]) / range
                                 : 4.0f + (c[0] - c[1]) / range;
    float hue = sixths / 6.0f;
    c[0] = range == 0.0f ? 0.0f : hue - floorf(hue);
    c[1] = range == 0.0f ? 0.0f : range / value;
    c[2] = value;
}

__device__ __forceinline__ void hsv_to_rgb(float (&c)[3]) {
    float turned = (c[0] - floorf(c[0])) * 6.0f;
    // Rounding may take a hue just below 1 to 6.
    float part = fminf(floorf(turned), 5.0f), rest = turned - part;
    float saturation = c[1], value = c[2];
    float low = value * (1.0f - saturation);
    float falling = value * (1.0f - saturation * rest);
    float rising = value * (1.0f - saturation * (1.0f - rest));
    switch ((int)part) {
        case 0: c[0] = value; c[1] = rising; c[2] = low; break;
        case 1: c[0] = falling; c[1] = value; c[2] = low; break;
        case 2: c[0] = low; c[1] = value; c[2] = rising; break;
        case 3: c[0] = low; c[1] = falling; c[2] = value; break;
        case 4: c[0] = rising; c[1] = low; c[2] = value; break;
        default: c[0] = value; c[1] = low; c[2] = falling;
    }
}

__device__ __forceinline__ float linear(float v) { return v > 0.04045f ? powf((v + 0.055f) / 1.055f, 2.4f) : v / 12.92f; }
__device__ __forceinline__ float bent(float v) { return v > 0.008856f ? cbrtf(v) : 7.787f * v + 16.0f / 116.0f; }
__device__ __forceinline__ float straight(float v) { return v > 0.20689303f ? v * v * v : (v - 16.0f / 116.0f) / 7.787f; }

__device__ __forceinline__ void rgb_to_lab(float (&c)[3]) {
    float red = linear(c[0]), green = linear(c[1]), blue = linear(c[2]);
    // CIE XYZ over the white of D65 (2°).
    float x = bent((0.412453f * red + 0.35758f * green + 0.180423f * blue) / 0.95047f);
    float y = bent((0.212671f * red + 0.71516f * green + 0.072169f * blue) / 1.0f);
    float z = bent((0.019334f * red + 0.119193f * green + 0.950227f * blue) / 1.08883f);
    c[0] = 116.0f * y - 16.0f;
    c[1] = 500.0f * (x - y);
    c[2] = 200.0f * (y - z);
}

__device__ __forceinline__ float displayed(float v) {
    float shown = v > 0.0031308f ? 1.055f * powf(v, 1.0f / 2.4f) - 0.055f : v * 12.92f;
    return shown < 0.0f ? 0.0f : shown > 1.0f ? 1.0f : shown;
}

__device__ __forceinline__ void lab_to_rgb(float (&c)[3]) {
    float middle = (c[0] + 16.0f) / 116.0f;
    float x = straight(c[1] / 500.0f + middle) * 0.95047f;
    float y = straight(middle);
    float z = straight(fmaxf(middle - c[2] / 200.0f, 0.0f)) * 1.08883f;
    c[0] = displayed(3.2404813f * x + -1.5371515f * y + -0.4985363f * z);
    c[1] = displayed(-0.969255f * x + 1.87599f * y + 0.041555927f * z);
    c[2] = displayed(0.05564664f * x + -0.20404134f * y + 1.057311f * z);
}

__device__ __forceinline__ void rgb_to_ycbcr(float (&c)[3]) {
    float bright = 0.299f * c[0] + 0.587f * c[1] + 0.114f * c[2];
    float blue = (c[2] - bright) / 1.772f + 0.5f, red = (c[0] - bright) / 1.402f + 0.5f;
    c[0] = bright;
    c[1] = blue;
    c[2] = red;
}

__device__ __forceinline__ void ycbcr_to_rgb(float (&c)[3]) {
    float bright = c[0], blue = bright + 1.772f * (c[1] - 0.5f), red = bright + 1.402f * (c[2] - 0.5f);
    c[0] = red;
    c[1] = (bright - 0.299f * red - 0.114f * blue) / 0.587f;
    c[2] = blue;
}

extern "C" __global__ void __launch_bounds__(256) color(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 pixel = (u64)blockIdx.x * blockDim.x + threadIdx.x; pixel < x.pixels; pixel += step) {
        float c[3];
        for (int i = 0; i < 3; i++) c[i] = load<float>(x.in.data, x.in.dtype, x.in.offset + (i64)pixel * 3 + i);
        PIXEL(c);
        for (int i = 0; i < 3; i++) store(x.out, x.dtype, (i64)pixel * 3 + i, c[i]);
    }
}

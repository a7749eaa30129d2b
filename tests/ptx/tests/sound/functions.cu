// Functions with slow paths, jump tables, 64-bit division, carries, bit fields.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = in[i];
    float value = sinf(x * 1e6f) + cosf(x) * tanf(x) + powf(fabsf(x), 1.5f) + fmodf(x, 0.7f) + erff(x) + atan2f(x, 2.0f);
    value += expm1f(x) + log1pf(fabsf(x)) + (float)(double)x;
    long long wide = (long long)(x * 1000.0f);
    value += (float)(wide / 7 + wide % 13) + (float)__umulhi(i * 77777777u, 1234567u) + __popc(i) + __clz(i + 1) + __brev(i) % 5;
    switch (i % 7) {
        case 0: value += 1; break;
        case 1: value *= 2; break;
        case 2: value -= 3; break;
        case 3: value = -value; break;
        case 4: value += x; break;
        default: value *= 0.5f;
    }
    out[i] = value;
}

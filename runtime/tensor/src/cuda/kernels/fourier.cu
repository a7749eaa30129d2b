// One pass of Stockham's transform of lines of complex numbers, each two floats: butterflies of RADIX numbers, one thread for each.
// `done` is the product of the radices of the passes before. What comes out of the last pass is in order.

struct Arguments {
    float* out;
    View in;
    u64 butterflies;
    i64 length, done;
    // 1 turns backwards.
    int inverse;
    float scale;
};

#if RADIX == 1
__device__ const float COSINES[] = {1.0f}, SINES[] = {0.0f};
#elif RADIX == 2
__device__ const float COSINES[] = {1.0f, -1.0f}, SINES[] = {0.0f, 0.0f};
#elif RADIX == 3
__device__ const float COSINES[] = {1.0f, -0.5f, -0.5f}, SINES[] = {0.0f, 0.8660254038f, -0.8660254038f};
#elif RADIX == 4
__device__ const float COSINES[] = {1.0f, 0.0f, -1.0f, 0.0f}, SINES[] = {0.0f, 1.0f, 0.0f, -1.0f};
#elif RADIX == 5
__device__ const float COSINES[] = {1.0f, 0.3090169944f, -0.8090169944f, -0.8090169944f, 0.3090169944f};
__device__ const float SINES[] = {0.0f, 0.9510565163f, 0.5877852523f, -0.5877852523f, -0.9510565163f};
#elif RADIX == 7
__device__ const float COSINES[] = {1.0f, 0.6234898019f, -0.2225209340f, -0.9009688679f, -0.9009688679f, -0.2225209340f, 0.6234898019f};
__device__ const float SINES[] = {0.0f, 0.7818314825f, 0.9749279122f, 0.4338837391f, -0.4338837391f, -0.9749279122f, -0.7818314825f};
#endif

extern "C" __global__ void __launch_bounds__(256) fourier(const Arguments x) {
    const i64 each = x.length / RADIX;
    const float direction = x.inverse ? 1.0f : -1.0f;
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.butterflies; i += stride) {
        const i64 line = (i64)i / each * x.length, at = (i64)i % each, place = at % x.done;
        float re[RADIX], im[RADIX];
#pragma unroll
        for (int q = 0; q < RADIX; q++) {
            i64 from = x.in.offset + 2 * (line + at + q * each);
            float a = load<float>(x.in.data, x.in.dtype, from), b = load<float>(x.in.data, x.in.dtype, from + 1);
            // Both numbers of the fraction are exact: lengths have at most 24 bits.
            float turn = direction * 2.0f * ((float)(place * q % (x.done * RADIX)) / (float)(x.done * RADIX));
            float c = cospif(turn), s = sinpif(turn);
            re[q] = a * c - b * s;
            im[q] = a * s + b * c;
        }
#pragma unroll
        for (int p = 0; p < RADIX; p++) {
            float sum_re = 0.0f, sum_im = 0.0f;
#pragma unroll
            for (int q = 0; q < RADIX; q++) {
                float c = COSINES[p * q % RADIX], s = direction * SINES[p * q % RADIX];
                sum_re += re[q] * c - im[q] * s;
                sum_im += re[q] * s + im[q] * c;
            }
            i64 to = 2 * (line + at / x.done * x.done * RADIX + place + p * x.done);
            x.out[to] = sum_re * x.scale;
            x.out[to + 1] = sum_im * x.scale;
        }
    }
}

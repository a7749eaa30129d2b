// What makes a Fourier transform of any length of three of a length that is easy: places times frequencies are written as squares,
// jk = (j² + k² - (k - j)²) / 2, which turns the sum into a convolution with a chirp (Bluestein). One thread for each complex number
// of the result.
//
// STEP: SPREAD multiplies lines with the chirp and fills them up with zeros; TABLE writes what they are convolved with, the chirp
// turned the other way, which wraps around; MULTIPLY multiplies each line with one line; GATHER takes what is wanted of each line and
// multiplies it with the chirp.

#define SPREAD 0
#define TABLE 1
#define MULTIPLY 2
#define GATHER 3

struct Arguments {
    float* out;
    View in;
    const float* table;
    // Complex numbers of the result.
    u64 numbers;
    // Of a line, and of one that is filled up.
    i64 length, padded;
    // 1 turns backwards.
    int inverse;
    float scale;
};

// The chirp at `place`. Both numbers of the fraction are exact: twice the length has at most 24 bits.
__device__ __forceinline__ float2 chirp_at(const Arguments& x, i64 place) {
    float turn = (float)((u64)place * (u64)place % (u64)(2 * x.length)) / (float)x.length;
    return make_float2(cospif(turn), x.inverse ? sinpif(turn) : -sinpif(turn));
}

__device__ __forceinline__ float2 number(const Arguments& x, i64 at) {
    const i64 from = x.in.offset + 2 * at;
    return make_float2(load<float>(x.in.data, x.in.dtype, from), load<float>(x.in.data, x.in.dtype, from + 1));
}

__device__ __forceinline__ float2 multiplied(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }

__device__ __forceinline__ float2 result(const Arguments& x, i64 i) {
#if STEP == SPREAD
    const i64 place = i % x.padded;
    if (place >= x.length) return make_float2(0.0f, 0.0f);
    return multiplied(number(x, i / x.padded * x.length + place), chirp_at(x, place));
#elif STEP == TABLE
    const i64 place = min(i, x.padded - i);
    if (place >= x.length) return make_float2(0.0f, 0.0f);
    const float2 chirp = chirp_at(x, place);
    return make_float2(chirp.x, -chirp.y);
#elif STEP == MULTIPLY
    const i64 place = i % x.padded;
    return multiplied(number(x, i), make_float2(x.table[2 * place], x.table[2 * place + 1]));
#else
    const i64 place = i % x.length;
    const float2 all = multiplied(number(x, i / x.length * x.padded + place), chirp_at(x, place));
    return make_float2(all.x * x.scale, all.y * x.scale);
#endif
}

extern "C" __global__ void __launch_bounds__(256) chirp(const Arguments x) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.numbers; i += stride) {
        const float2 value = result(x, (i64)i);
        x.out[2 * i] = value.x;
        x.out[2 * i + 1] = value.y;
    }
}

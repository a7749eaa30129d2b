// What every kernel starts with: element types, and loads and stores of any of them.
//
// No header of CUDA's is included, so that NVRTC needs none. Halves are kept as bits and computed with as floats.
// Compiled without contraction to fused multiply-adds; where one is wanted, fmaf says so.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// The order of `DType::ALL`.
enum { FLOAT32, FLOAT16, BFLOAT16, UINT8, INT32, INT64, BOOLEAN, FLOAT8_E4M3, FLOAT8_E5M2 };

#define NAN __int_as_float(0x7fc00000)
#define INFINITY __int_as_float(0x7f800000)
#define MAX_RANK 12

__device__ __forceinline__ float half_to_float(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ u16 float_to_half(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float brain_to_float(u16 bits) { return __uint_as_float((u32)bits << 16); }

// To nearest, halves to even. Every architecture can do this; only the newer ones have an instruction for it.
__device__ __forceinline__ u16 float_to_brain(float value) {
    u32 bits = __float_as_uint(value);
    if (value != value) return (u16)((bits >> 16) | 0x40);
    return (u16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 4 bits of exponent and 3 of mantissa, without infinities.
__device__ __forceinline__ float e4m3_to_float(u8 bits) {
    u32 exponent = bits >> 3 & 15, mantissa = bits & 7;
    float value = exponent == 0 ? (float)mantissa / 512.0f : __uint_as_float((exponent + 120) << 23 | mantissa << 20);
    if ((bits & 0x7f) == 0x7f) value = NAN;
    return bits & 0x80 ? -value : value;
}

// The upper half of a half.
__device__ __forceinline__ float e5m2_to_float(u8 bits) { return half_to_float((u16)((u16)bits << 8)); }

// To nearest, halves to even. `overflow` is where numbers end, as the bits of a float, `beyond` what stands for them.
__device__ __forceinline__ u8 float_to_float8(float value, u32 bias, u32 mantissa, u32 overflow, u8 beyond) {
    const u32 dropped = 23 - mantissa;
    u32 bits = __float_as_uint(value) & 0x7fffffff;
    u8 sign = (u8)(__float_as_uint(value) >> 24 & 0x80);
    if (bits > 0x7f800000) return sign | 0x7f;
    if (bits >= overflow) return sign | beyond;
    if (bits < (128 - bias) << 23) {
        u32 unit = (127 - bias + dropped + 1) << 23;
        return sign | (u8)(__float_as_uint(__uint_as_float(bits) + __uint_as_float(unit)) - unit);
    }
    return sign | (u8)((bits + (1u << (dropped - 1)) - 1 + (bits >> dropped & 1) - ((127 - bias) << 23)) >> dropped);
}

__device__ __forceinline__ u8 float_to_e4m3(float value) { return float_to_float8(value, 7, 3, 0x43e80000, 0x7e); }
__device__ __forceinline__ u8 float_to_e5m2(float value) { return float_to_float8(value, 15, 2, 0x47800000, 0x7c); }

// Floats become integers by truncation, cut to the range, and 0 for what is no number.
__device__ __forceinline__ i64 float_to_whole(float value) {
    if (value != value) return 0;
    if (value >= 9223372036854775808.0f) return 0x7fffffffffffffffLL;
    if (value <= -9223372036854775808.0f) return -0x7fffffffffffffffLL - 1;
    return (i64)value;
}

template <typename T> __device__ __forceinline__ T load(const void* data, int dtype, i64 at);

template <> __device__ __forceinline__ float load<float>(const void* data, int dtype, i64 at) {
    switch (dtype) {
        case FLOAT32: return ((const float*)data)[at];
        case FLOAT16: return half_to_float(((const u16*)data)[at]);
        case BFLOAT16: return brain_to_float(((const u16*)data)[at]);
        case FLOAT8_E4M3: return e4m3_to_float(((const u8*)data)[at]);
        case FLOAT8_E5M2: return e5m2_to_float(((const u8*)data)[at]);
        case INT32: return (float)((const int*)data)[at];
        case INT64: return (float)((const i64*)data)[at];
        default: return (float)((const u8*)data)[at];
    }
}

template <> __device__ __forceinline__ i64 load<i64>(const void* data, int dtype, i64 at) {
    switch (dtype) {
        case INT32: return ((const int*)data)[at];
        case INT64: return ((const i64*)data)[at];
        case UINT8: case BOOLEAN: return ((const u8*)data)[at];
        default: return float_to_whole(load<float>(data, dtype, at));
    }
}

__device__ __forceinline__ void store(void* data, int dtype, i64 at, float value) {
    switch (dtype) {
        case FLOAT32: ((float*)data)[at] = value; break;
        case FLOAT16: ((u16*)data)[at] = float_to_half(value); break;
        case BFLOAT16: ((u16*)data)[at] = float_to_brain(value); break;
        case FLOAT8_E4M3: ((u8*)data)[at] = float_to_e4m3(value); break;
        case FLOAT8_E5M2: ((u8*)data)[at] = float_to_e5m2(value); break;
        case UINT8: ((u8*)data)[at] = (u8)(value > 0.0f ? fminf(value, 255.0f) : 0.0f); break;
        case INT32: {
            i64 whole = float_to_whole(value);
            ((int*)data)[at] = (int)(whole > 0x7fffffffLL ? 0x7fffffffLL : whole < -0x80000000LL ? -0x80000000LL : whole);
            break;
        }
        case INT64: ((i64*)data)[at] = float_to_whole(value); break;
        default: ((u8*)data)[at] = value != 0.0f;
    }
}

// Integers wrap.
__device__ __forceinline__ void store(void* data, int dtype, i64 at, i64 value) {
    switch (dtype) {
        case FLOAT32: case FLOAT16: case BFLOAT16: case FLOAT8_E4M3: case FLOAT8_E5M2: store(data, dtype, at, (float)value); break;
        case UINT8: ((u8*)data)[at] = (u8)value; break;
        case INT32: ((int*)data)[at] = (int)value; break;
        case INT64: ((i64*)data)[at] = value; break;
        default: ((u8*)data)[at] = value != 0;
    }
}

// Arithmetic of int64 that wraps, whatever the compiler may think of overflow.
__device__ __forceinline__ i64 sum(i64 a, i64 b) { return (i64)((u64)a + (u64)b); }
__device__ __forceinline__ i64 negated(i64 a) { return (i64)(0 - (u64)a); }
__device__ __forceinline__ i64 product(i64 a, i64 b) { return (i64)((u64)a * (u64)b); }

// A remainder by zero is zero; so is one by -1, where the smallest integer would overflow.
__device__ __forceinline__ i64 rest(i64 a, i64 b) { return b == 0 || b == -1 ? 0 : a % b; }

__device__ __forceinline__ i64 rest_of_floor(i64 a, i64 b) {
    i64 left = rest(a, b);
    return left != 0 && (left < 0) != (b < 0) ? left + b : left;
}

__device__ __forceinline__ i64 power(i64 base, i64 exponent) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    if (exponent < 0) return 0;
    i64 result = 1;
    for (u64 left = exponent; left > 0; left >>= 1) {
        if (left & 1) result = product(result, base);
        base = product(base, base);
    }
    return result;
}

__device__ __forceinline__ float remainder_of_floor(float a, float b) {
    float left = fmodf(a, b);
    return left != 0.0f && (left < 0.0f) != (b < 0.0f) ? left + b : left;
}

__device__ __forceinline__ float sigmoid(float a) { return 1.0f / (1.0f + expf(-a)); }

// ln(1 + e^scaled) / p; linear beyond 20.
__device__ __forceinline__ float softplus(float scaled, float a, float p) {
    return scaled > 20.0f ? a : log1pf(expf(scaled)) / p;
}

// A number whose order is that of floats; not-a-number comes last, and both zeros are equal.
__device__ __forceinline__ u32 ordered_bits(float value) {
    u32 bits = value == 0.0f ? 0u : __float_as_uint(value);
    return value != value ? 0xffffffffu : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float from_ordered_bits(u32 bits) {
    return bits == 0xffffffffu ? NAN : __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// Elements of a tensor at `offset` and strides, in elements. Without data it is one number.
struct View {
    const void* data;
    i64 offset;
    i64 strides[MAX_RANK];
    i64 whole;
    float number;
    int dtype;
};

template <typename T> __device__ __forceinline__ T scalar_of(const View& view);
template <> __device__ __forceinline__ float scalar_of<float>(const View& view) { return view.number; }
template <> __device__ __forceinline__ i64 scalar_of<i64>(const View& view) { return view.whole; }

template <typename T> __device__ __forceinline__ T read(const View& view, i64 at) {
    return view.data ? load<T>(view.data, view.dtype, at) : scalar_of<T>(view);
}

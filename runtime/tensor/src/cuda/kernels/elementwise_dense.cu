// EXPRESSION of operands that lie in memory as the result does, without gaps, eight elements at a time. A_TYPE, B_TYPE, C_TYPE
// and OUT_TYPE are known to the compiler; SCALAR stands for a number that is the same everywhere.

#define SCALAR -1

// Eight elements in words of memory.
template <int DTYPE> struct Eight {
    static const int BYTES = DTYPE == INT64 ? 8 : DTYPE == FLOAT32 || DTYPE == INT32 ? 4 : DTYPE == FLOAT16 || DTYPE == BFLOAT16 ? 2 : 1;
    static const int WORDS = 2 * BYTES;
    u32 words[WORDS];

    __device__ __forceinline__ void read(const View& view, i64 vector) {
        const u32* from = (const u32*)view.data + (view.offset / 8 + vector) * WORDS;
        if (BYTES == 1) {
            uint2 pair = *(const uint2*)from;
            words[0] = pair.x, words[1] = pair.y;
        }
#pragma unroll
        for (int i = 0; i < WORDS / 4; i++) {
            uint4 four = ((const uint4*)from)[i];
            words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
        }
    }

    __device__ __forceinline__ void write(void* data, i64 vector) const {
        u32* to = (u32*)data + vector * WORDS;
        if (BYTES == 1) *(uint2*)to = make_uint2(words[0], words[1]);
#pragma unroll
        for (int i = 0; i < WORDS / 4; i++)
            ((uint4*)to)[i] = make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    }

    __device__ __forceinline__ COMPUTE at(int i) const {
        u64 bits = BYTES == 8 ? words[2 * i % WORDS] | (u64)words[(2 * i + 1) % WORDS] << 32 : words[i * BYTES / 4] >> i * BYTES % 4 * 8;
        return load<COMPUTE>(&bits, DTYPE, 0);
    }

    // In the order of the elements.
    __device__ __forceinline__ void set(int i, COMPUTE value) {
        u64 bits = 0;
        store(&bits, DTYPE, 0, value);
        if (BYTES == 8) {
            words[2 * i % WORDS] = (u32)bits, words[(2 * i + 1) % WORDS] = (u32)(bits >> 32);
        } else {
            u32 before = i * BYTES % 4 == 0 ? 0 : words[i * BYTES / 4];
            words[i * BYTES / 4] = before | (u32)bits << i * BYTES % 4 * 8;
        }
    }
};

template <> struct Eight<SCALAR> {
    COMPUTE number;

    __device__ __forceinline__ void read(const View& view, i64) { number = scalar_of<COMPUTE>(view); }
    __device__ __forceinline__ COMPUTE at(int) const { return number; }
};

extern "C" __global__ void __launch_bounds__(256) elementwise_dense(const Arguments x) {
    const COMPUTE p = constant(x, 0, (COMPUTE)0), q = constant(x, 1, (COMPUTE)0);
    const INDEX first = (INDEX)blockIdx.x * blockDim.x + threadIdx.x, step = (INDEX)gridDim.x * blockDim.x;
    const INDEX vectors = (INDEX)x.elements / 8;
    for (INDEX vector = first; vector < vectors; vector += step) {
        Eight<A_TYPE> all_a;
        Eight<B_TYPE> all_b;
        Eight<C_TYPE> all_c;
        all_a.read(x.a, vector);
        all_b.read(x.b, vector);
        all_c.read(x.c, vector);
        Eight<OUT_TYPE> out;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const COMPUTE a = all_a.at(i), b = all_b.at(i), c = all_c.at(i);
            out.set(i, (COMPUTE)(EXPRESSION));
        }
        out.write(x.out, vector);
    }
    // What is left of the end.
    const INDEX i = vectors * 8 + first;
    if (i < (INDEX)x.elements) {
        const COMPUTE a = A_TYPE == SCALAR ? scalar_of<COMPUTE>(x.a) : load<COMPUTE>(x.a.data, A_TYPE, x.a.offset + i);
        const COMPUTE b = B_TYPE == SCALAR ? scalar_of<COMPUTE>(x.b) : load<COMPUTE>(x.b.data, B_TYPE, x.b.offset + i);
        const COMPUTE c = C_TYPE == SCALAR ? scalar_of<COMPUTE>(x.c) : load<COMPUTE>(x.c.data, C_TYPE, x.c.offset + i);
        store(x.out, OUT_TYPE, (i64)i, (COMPUTE)(EXPRESSION));
    }
}

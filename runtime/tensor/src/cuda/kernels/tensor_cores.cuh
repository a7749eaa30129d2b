// Tensor cores: products of small matrices by a whole warp, with the fragments of the PTX ISA. Operands are float16, or with
// BRAIN bfloat16 (sm_80 and newer); sums are float32.

// A tile's rows lie this many elements farther apart than they are long: eight of them are then in different banks.
#define PADDING 8

// Four 8×8 matrices of shared memory, as fragments; lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(u32* to, const u16* row) {
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(u32* to, const u16* row) {
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
}

// sums += a (16×16) · b (16×8).
__device__ __forceinline__ void multiply(float* sums, const u32* a, const u32* b) {
#ifdef BRAIN
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int half = 0; half < 2; half++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

// Eight elements of 16 bits that lie together at a multiple of 16 bytes; zeros where there is no place.
__device__ __forceinline__ uint4 fetch_together(const u16* from) { return from ? *(const uint4*)from : make_uint4(0, 0, 0, 0); }

// Eight elements of 16 bits, `step` apart; zeros in place of those from `inside` on.
__device__ __forceinline__ uint4 fetch(const u16* from, i64 step, i64 inside) {
    u32 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 low = 2 * i < inside ? from[2 * i * step] : 0;
        u32 high = 2 * i + 1 < inside ? from[(2 * i + 1) * step] : 0;
        pairs[i] = low | high << 16;
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

#if __CUDA_ARCH__ >= 800
#define COPIES_ALONE 1
#endif

// Copies eight elements of 16 bits to shared memory, zeros where `from` is null: from sm_80 on past the registers, so that they arrive
// when they have been waited for. Both places are multiples of 16 bytes, and `anywhere` is an address that may be read.
__device__ __forceinline__ void begin_copy(u16* to, const u16* from, const void* anywhere) {
#ifdef COPIES_ALONE
    u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(at), "l"(from ? (const void*)from : anywhere), "r"(from ? 16 : 0) : "memory");
#else
    *(uint4*)to = fetch_together(from);
#endif
}

// Waits until all copies of the block that were begun have arrived, and everybody is here.
__device__ __forceinline__ void wait_for_copies() {
#ifdef COPIES_ALONE
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    __syncthreads();
}

// Two neighbours at once, of which the second may be beyond the end of a row.
__device__ __forceinline__ void store_pair(void* data, int dtype, i64 at, float first, float second, bool both) {
    if (both && at % 2 == 0 && dtype == FLOAT16) {
        ((u32*)data)[at / 2] = float_to_half(first) | (u32)float_to_half(second) << 16;
    } else if (both && at % 2 == 0 && dtype == BFLOAT16) {
        ((u32*)data)[at / 2] = float_to_brain(first) | (u32)float_to_brain(second) << 16;
    } else if (both && at % 2 == 0 && dtype == FLOAT32) {
        ((float2*)data)[at / 2] = make_float2(first, second);
    } else {
        store(data, dtype, at, first);
        if (both) store(data, dtype, at + 1, second);
    }
}

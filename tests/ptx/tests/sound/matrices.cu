// A product of 16×16 and 16×8 halves: out[0..128). The left fragments are read as they lie, the right ones turned around.
// FIRST and SECOND name the halves of `a` along the rows; swapped, the product is a wrong one.
#ifndef FIRST
#define FIRST 0
#define SECOND 1
#endif

__device__ unsigned short half_of(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ void load(unsigned* to, const unsigned short* row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
}

__device__ void load_turned(unsigned* to, const unsigned short* row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
}

extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ __align__(16) unsigned short a[16][16], b[16][8];
    int lane = threadIdx.x;
    if (blockIdx.x > 0) return;
    if (lane >= 32) {
        if (96 + lane < n) out[96 + lane] = 0.0f;
        return;
    }
    for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = half_of(in[(i / 16 * 7 + i % 16 * 3) % n]);
    for (int i = lane; i < 128; i += 32) b[i / 8][i % 8] = half_of(in[(i / 8 * 5 + i % 8 * 11) % n]);
    __syncwarp();
    unsigned left[4], right[2];
    load(left, &a[lane % 16][lane / 16 * 8]);
    load_turned(right, &b[lane % 16][0]);
    float sums[4] = {};
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[FIRST]), "r"(left[SECOND]), "r"(left[FIRST + 2]), "r"(left[SECOND + 2]), "r"(right[0]), "r"(right[1]));
#else
    for (int half = 0; half < 2; half++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(left[2 * half + FIRST]), "r"(left[2 * half + SECOND]), "r"(right[half]));
#endif
    for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

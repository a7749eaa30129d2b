// expect: Divergence
// One lane of a warp does not take part in a product of matrices.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    float sums[4] = {};
    unsigned one = 0x3c003c00;
    if (threadIdx.x != 37) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %4}, {%4}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(one));
    }
    out[threadIdx.x] = sums[0];
}

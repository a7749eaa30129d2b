// expect: Race
// Two groups are under way, and one is waited for.
__device__ __forceinline__ void begin_copy(float* to, const float* from) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(at), "l"(from) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
}
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ __align__(16) float tile[2][64];
    int i = threadIdx.x;
    for (int part = 0; part < 2; part++)
        if (i < 16) begin_copy(tile[part] + i * 4, in + part * 64 + i * 4);
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    if (blockIdx.x == 0) out[i] = tile[0][63 - i] + tile[1][63 - i];
}

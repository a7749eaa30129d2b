// expect: Race
// Each thread waits for its own copies, and reads what another thread's brought.
__device__ __forceinline__ void begin_copy(float* to, const float* from) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(at), "l"(from) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
}
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ __align__(16) float tile[64];
    int i = threadIdx.x;
    if (i < 16) begin_copy(tile + i * 4, in + i * 4);
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (blockIdx.x == 0) out[i] = tile[63 - i];
}

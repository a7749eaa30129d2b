// expect: Race
// Lanes read rows of a matrix that others of the warp have written, without a barrier between.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ __align__(16) unsigned rows[64][4];
    for (int i = 0; i < 4; i++) rows[threadIdx.x][i] = threadIdx.x;
    unsigned found, at = (unsigned)__cvta_generic_to_shared(rows[threadIdx.x / 32 * 32 + (threadIdx.x + 1) % 32]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(found) : "r"(at) : "memory");
    out[threadIdx.x] = (float)found;
}

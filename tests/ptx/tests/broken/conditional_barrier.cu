// expect: Divergence
// A barrier that only half of the block reaches.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ float tile[64];
    tile[threadIdx.x] = in[threadIdx.x];
    if (threadIdx.x < 32) {
        __syncthreads();
        out[threadIdx.x] = tile[threadIdx.x];
    }
}

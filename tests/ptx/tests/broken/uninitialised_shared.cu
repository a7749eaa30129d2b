// expect: Uninitialised
// The halo of a tile is never loaded.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ float tile[66];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x + 1] = i < n ? in[i] : 0.0f;
    __syncthreads();
    if (i < n) out[i] = tile[threadIdx.x] + tile[threadIdx.x + 2];
}

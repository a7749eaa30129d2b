// expect: Race
// Reads what another warp writes, with no barrier between.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ float tile[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    ((volatile float*)tile)[threadIdx.x] = 0.0f;
    __syncthreads();
    tile[threadIdx.x] = i < n ? in[i] : 0.0f;
    if (i < n) out[i] = tile[63 - threadIdx.x];
}

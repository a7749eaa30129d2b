// expect: Race
// The next tile is written while others still read this one.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ float tile[64];
    float sum = 0.0f;
    for (int start = 0; start < n; start += 64) {
        tile[threadIdx.x] = start + threadIdx.x < n ? in[start + threadIdx.x] : 0.0f;
        __syncthreads();
        sum += tile[63 - threadIdx.x];
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

// expect: Race
// Lanes of one warp exchange values through memory as if they ran in step.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    __shared__ float tile[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = i < n ? in[i] : 0.0f;
    float other = tile[threadIdx.x ^ 1];
    if (i < n) out[i] = other;
}

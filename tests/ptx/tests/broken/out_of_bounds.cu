// expect: OutOfBounds
// One thread too many.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = 2.0f * in[i < n ? i : 0];
}

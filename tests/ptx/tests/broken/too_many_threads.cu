// expect: Configuration
// Compiled for 32 threads, so with as many registers as it likes, and started with 64.
extern "C" __global__ void __launch_bounds__(32) kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];
}

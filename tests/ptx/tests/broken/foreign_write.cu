// expect: ForeignWrite
// Writes to its input, which another job owns.
extern "C" __global__ void kernel(float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) in[i] = 0.0f;
}

// expect: OutOfBounds
// The neighbour of the first element.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] - in[i - 1];
}

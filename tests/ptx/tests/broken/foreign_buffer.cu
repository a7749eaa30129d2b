// expect: ForeignBuffer
// So far beyond its buffer that it meets somebody else's.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    if (threadIdx.x == 0 && blockIdx.x == 0) out[0] = in[FOREIGN];
}

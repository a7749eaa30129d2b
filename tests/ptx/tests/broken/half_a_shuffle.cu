// expect: Divergence
// The mask names lanes that have left.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    float value = in[threadIdx.x];
    if (threadIdx.x % 32 < 16) {
        value += __shfl_xor_sync(0xffffffff, value, 1);
        out[threadIdx.x] = value;
    }
}

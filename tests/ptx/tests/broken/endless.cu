// expect: Endless
// Waits for something that never happens.
extern "C" __global__ void kernel(const float* in, volatile float* out, int n) {
    if (threadIdx.x == 0) out[0] = 1.0f;
    while (threadIdx.x == 0 && out[0] != 2.0f) {}
}

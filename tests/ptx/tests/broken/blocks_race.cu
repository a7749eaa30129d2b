// expect: Race
// Every block writes the same place.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    out[threadIdx.x] = in[blockIdx.x];
}

// expect: Misaligned
// Four elements at once from any place.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = threadIdx.x;
    if (i + 4 < n && i < 4) {
        float4 v = *(const float4*)(in + i);
        out[i] = v.x + v.y + v.z + v.w;
    }
}

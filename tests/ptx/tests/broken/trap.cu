// expect: Trap
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    asm("trap;");
}

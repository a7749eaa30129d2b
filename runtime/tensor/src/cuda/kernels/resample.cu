// Along one of four dimensions, every result is a weighted sum of some elements. Tables say which and how much.

struct Arguments {
    View in;
    float* out;
    const int* starts;
    const int* indices;
    const float* weights;
    u64 elements;
    i64 lengths[4];
    i64 axis;
};

extern "C" __global__ void __launch_bounds__(256) resample(const Arguments x) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += stride) {
        u64 left = i;
        i64 base = x.in.offset, output = 0, step = 0;
        for (int d = 3; d >= 0; d--) {
            i64 place = left % x.lengths[d];
            left /= x.lengths[d];
            if (d == x.axis) {
                output = place;
                step = x.in.strides[d];
            } else {
                base += place * x.in.strides[d];
            }
        }
        float sum = 0.0f;
        for (int tap = x.starts[output]; tap < x.starts[output + 1]; tap++) {
            float value = load<float>(x.in.data, x.in.dtype, base + x.indices[tap] * step);
            sum = tap == x.starts[output] ? value * x.weights[tap] : fmaf(value, x.weights[tap], sum);
        }
        x.out[i] = sum;
    }
}

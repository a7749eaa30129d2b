// One block per row: softmax, layer norm, RMS norm, group norm. MODE says which.
//
// A row is `outer` runs of `inner` elements; where they lie, four strides say. Weight and bias go with the run when
// BY_RUN is set (group norm's channels), else with the element.

#define SOFTMAX 0
#define LAYER 1
#define RMS 2

struct Arguments {
    const void* in;
    void* out;
    View weight, bias;
    // Rows are counted as (a, b), b < `minor`: row a starts at a·major_stride + b·minor_stride.
    i64 minor, major_stride, minor_stride;
    i64 outer, inner, outer_stride, inner_stride;
    i64 offset;
    double eps;
    int dtype, out_dtype;
};

__device__ __forceinline__ float block_sum(float value) {
    __shared__ float partial[8];
    for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(0xffffffff, value, by);
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0.0f;
    for (int i = 0; i < 8; i++) total += partial[i];
    return total;
}

__device__ __forceinline__ float greater(float a, float b) { return (a > b || a != a) ? a : b; }

__device__ __forceinline__ float block_max(float value) {
    __shared__ float partial[8];
    for (int by = 16; by > 0; by /= 2) value = greater(value, __shfl_xor_sync(0xffffffff, value, by));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    float peak = partial[0];
    for (int i = 1; i < 8; i++) peak = greater(peak, partial[i]);
    return peak;
}

extern "C" __global__ void __launch_bounds__(256) rows(const Arguments x) {
    const i64 base = blockIdx.x / x.minor * x.major_stride + blockIdx.x % x.minor * x.minor_stride;
    const i64 length = x.outer * x.inner;
#define PLACE(e) (base + (e) / x.inner * x.outer_stride + (e) % x.inner * x.inner_stride)
#define ELEMENT(e) load<float>(x.in, x.dtype, x.offset + PLACE(e))
#if MODE == SOFTMAX
    float peak = -INFINITY;
    for (i64 e = threadIdx.x; e < length; e += 256) peak = greater(peak, ELEMENT(e));
    peak = block_max(peak);
    float sum = 0.0f;
    for (i64 e = threadIdx.x; e < length; e += 256) sum += expf(ELEMENT(e) - peak);
    sum = block_sum(sum);
    for (i64 e = threadIdx.x; e < length; e += 256) store(x.out, x.out_dtype, PLACE(e), expf(ELEMENT(e) - peak) / sum);
#else
    float mean = 0.0f;
#if MODE == LAYER
    for (i64 e = threadIdx.x; e < length; e += 256) mean += ELEMENT(e);
    mean = block_sum(mean) / (float)length;
#endif
    float square = 0.0f;
    for (i64 e = threadIdx.x; e < length; e += 256) {
        float away = ELEMENT(e) - mean;
        square = fmaf(away, away, square);
    }
    const float scale = (float)(1.0 / sqrt((double)(block_sum(square) / (float)length) + x.eps));
    for (i64 e = threadIdx.x; e < length; e += 256) {
        float value = (ELEMENT(e) - mean) * scale;
#ifdef BY_RUN
        i64 parameter = blockIdx.x % x.minor * x.outer + e / x.inner;
#else
        i64 parameter = e;
#endif
        if (x.weight.data) value *= load<float>(x.weight.data, x.weight.dtype, x.weight.offset + parameter);
        if (x.bias.data) value += load<float>(x.bias.data, x.bias.dtype, x.bias.offset + parameter);
        store(x.out, x.out_dtype, PLACE(e), value);
    }
#endif
}

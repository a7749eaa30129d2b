// The argument of both elementwise kernels. EXPRESSION is one of up to three operands a, b, c and the constants p, q, all of
// type COMPUTE; INDEX counts elements.

struct Arguments {
    void* out;
    u64 elements;
    i64 lengths[MAX_RANK];
    View a, b, c;
    i64 whole[2];
    float numbers[2];
    int dtype;
    int rank;
};

__device__ __forceinline__ float constant(const Arguments& x, int i, float) { return x.numbers[i]; }
__device__ __forceinline__ i64 constant(const Arguments& x, int i, i64) { return x.whole[i]; }

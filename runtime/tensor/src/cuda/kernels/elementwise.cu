// EXPRESSION of operands at any strides, of types known when it runs, in the order of the result's memory.

extern "C" __global__ void __launch_bounds__(256) elementwise(const Arguments x) {
    const COMPUTE p = constant(x, 0, (COMPUTE)0), q = constant(x, 1, (COMPUTE)0);
    const INDEX step = (INDEX)gridDim.x * blockDim.x;
    for (INDEX i = (INDEX)blockIdx.x * blockDim.x + threadIdx.x; i < (INDEX)x.elements; i += step) {
        INDEX left = i;
        i64 at_a = x.a.offset, at_b = x.b.offset, at_c = x.c.offset;
        for (int d = x.rank - 1; d >= 0; d--) {
            INDEX place = left;
            if (d > 0) {
                INDEX length = (INDEX)x.lengths[d];
                left = place / length;
                place -= left * length;
            }
            at_a += (i64)place * x.a.strides[d];
            if (OPERANDS > 1) at_b += (i64)place * x.b.strides[d];
            if (OPERANDS > 2) at_c += (i64)place * x.c.strides[d];
        }
        COMPUTE a = read<COMPUTE>(x.a, at_a);
        COMPUTE b = OPERANDS > 1 ? read<COMPUTE>(x.b, at_b) : 0;
        COMPUTE c = OPERANDS > 2 ? read<COMPUTE>(x.c, at_c) : 0;
        store(x.out, x.dtype, (i64)i, (COMPUTE)(EXPRESSION));
    }
}

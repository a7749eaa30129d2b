// Elements of ELEMENT bytes from one strided place to another.

struct Arguments {
    const ELEMENT* from;
    ELEMENT* to;
    i64 from_offset, to_offset;
    u64 elements;
    i64 lengths[MAX_RANK], from_strides[MAX_RANK], to_strides[MAX_RANK];
    // The bits of an element, lowest first.
    u64 fill;
    i64 rank;
};

extern "C" __global__ void __launch_bounds__(256) copy(const Arguments x) {
    const INDEX step = (INDEX)gridDim.x * blockDim.x;
    for (INDEX i = (INDEX)blockIdx.x * blockDim.x + threadIdx.x; i < (INDEX)x.elements; i += step) {
        INDEX left = i;
        i64 from = x.from_offset, to = x.to_offset;
        for (int d = (int)x.rank - 1; d >= 0; d--) {
            INDEX place = left;
            if (d > 0) {
                INDEX length = (INDEX)x.lengths[d];
                left = place / length;
                place -= left * length;
            }
            from += (i64)place * x.from_strides[d];
            to += (i64)place * x.to_strides[d];
        }
        x.to[to] = x.from ? x.from[from] : (ELEMENT)x.fill;
    }
}

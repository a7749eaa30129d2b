// The argument of both kernels for attention, and what a block of one works on.

struct Arguments {
    void* out;
    // The last two strides are those of the matrix, in places 0 and 1; the batch's are beside.
    View query, key, value, mask;
    i64 batch_lengths[MAX_RANK], query_batch[MAX_RANK], key_batch[MAX_RANK], value_batch[MAX_RANK], mask_batch[MAX_RANK];
    i64 queries, keys, width, value_width;
    float scale;
    int causal, boolean_mask, batch_rank, dtype;
};

// Of one block: its first query, the first column of the values that it sums up, its place in the batch, and where that one's
// operands begin.
struct Part {
    i64 first, column, batch, query, key, value, mask;
};

__device__ __forceinline__ Part own_part(const Arguments& x, int queries, int columns) {
    const i64 slices = (x.value_width + columns - 1) / columns, tiles = (x.queries + queries - 1) / queries;
    Part part;
    i64 rest = blockIdx.x;
    part.column = rest % slices * columns;
    rest /= slices;
    part.first = rest % tiles * queries;
    part.batch = rest = rest / tiles;
    part.query = x.query.offset;
    part.key = x.key.offset;
    part.value = x.value.offset;
    part.mask = x.mask.offset;
    for (int d = x.batch_rank - 1; d >= 0; d--) {
        i64 place = rest % x.batch_lengths[d];
        rest /= x.batch_lengths[d];
        part.query += place * x.query_batch[d];
        part.key += place * x.key_batch[d];
        part.value += place * x.value_batch[d];
        part.mask += place * x.mask_batch[d];
    }
    return part;
}

// A product of query and key as a score: scaled, and masked; minus infinity where the query may not see the key.
__device__ __forceinline__ float score_of(const Arguments& x, const Part& part, i64 query, i64 key, float product) {
    float score = product * x.scale;
    if (key >= x.keys || (x.causal && key > query)) return -INFINITY;
    if (x.mask.data && query < x.queries) {
        float mask = load<float>(x.mask.data, x.mask.dtype, part.mask + query * x.mask.strides[0] + key * x.mask.strides[1]);
        score = x.boolean_mask ? (mask != 0.0f ? score : -INFINITY) : score + mask;
    }
    return score;
}

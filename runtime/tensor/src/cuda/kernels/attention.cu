// softmax(query · keyᵀ · scale + mask) · value without the scores in memory. A block has 32 queries, and goes through the
// keys 32 at a time; eight threads share a query. WIDTH is at least the width of keys and of values.

#define QUERIES 32
#define KEYS 32
#define SHARED_BY 8

struct Arguments {
    float* out;
    // The last two strides are those of the matrix, in places 0 and 1; the batch's are beside.
    View query, key, value, mask;
    i64 batch_lengths[MAX_RANK], query_batch[MAX_RANK], key_batch[MAX_RANK], value_batch[MAX_RANK], mask_batch[MAX_RANK];
    i64 queries, keys, width, value_width;
    float scale;
    int causal, boolean_mask, batch_rank;
};

extern "C" __global__ void __launch_bounds__(256, WIDTH > 64 ? 1 : 2) attention(const Arguments x) {
    __shared__ float query_tile[QUERIES][WIDTH + 1];
    __shared__ float key_tile[KEYS][WIDTH + 1];
    __shared__ float weights[QUERIES][KEYS + 1];
    const i64 tiles = (x.queries + QUERIES - 1) / QUERIES;
    const i64 first = blockIdx.x % tiles * QUERIES, batch = blockIdx.x / tiles;
    i64 query_at = x.query.offset, key_at = x.key.offset, value_at = x.value.offset, mask_at = x.mask.offset;
    i64 rest = batch;
    for (int d = x.batch_rank - 1; d >= 0; d--) {
        i64 place = rest % x.batch_lengths[d];
        rest /= x.batch_lengths[d];
        query_at += place * x.query_batch[d];
        key_at += place * x.key_batch[d];
        value_at += place * x.value_batch[d];
        mask_at += place * x.mask_batch[d];
    }
    const int thread = threadIdx.x, own = thread / SHARED_BY, part = thread % SHARED_BY;
    const i64 query = first + own;
    for (int item = thread; item < QUERIES * WIDTH; item += 256) {
        int row = item / WIDTH, column = item % WIDTH;
        bool inside = first + row < x.queries && column < x.width;
        i64 at = query_at + (first + row) * x.query.strides[0] + column * x.query.strides[1];
        query_tile[row][column] = inside ? load<float>(x.query.data, x.query.dtype, at) : 0.0f;
    }
    float sums[WIDTH / SHARED_BY] = {};
    float largest = -INFINITY, total = 0.0f;
    for (i64 start = 0; start < x.keys; start += KEYS) {
        for (int item = thread; item < KEYS * WIDTH; item += 256) {
            int row = item / WIDTH, column = item % WIDTH;
            bool inside = start + row < x.keys && column < x.width;
            i64 at = key_at + (start + row) * x.key.strides[0] + column * x.key.strides[1];
            key_tile[row][column] = inside ? load<float>(x.key.data, x.key.dtype, at) : 0.0f;
        }
        __syncthreads();
        float scores[KEYS / SHARED_BY];
        float peak = largest;
        for (int i = 0; i < KEYS / SHARED_BY; i++) {
            i64 key = start + part + i * SHARED_BY;
            float score = 0.0f;
            for (int k = 0; k < WIDTH; k++) score = fmaf(query_tile[own][k], key_tile[part + i * SHARED_BY][k], score);
            score *= x.scale;
            if (x.mask.data && key < x.keys && query < x.queries) {
                i64 at = mask_at + query * x.mask.strides[0] + key * x.mask.strides[1];
                float mask = load<float>(x.mask.data, x.mask.dtype, at);
                score = x.boolean_mask ? (mask != 0.0f ? score : -INFINITY) : score + mask;
            }
            if (key >= x.keys || (x.causal && key > query)) score = -INFINITY;
            scores[i] = score;
            peak = fmaxf(peak, score);
        }
        for (int by = SHARED_BY / 2; by > 0; by /= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffff, peak, by));
        float shrink = peak == -INFINITY ? 1.0f : expf(largest - peak);
        float sum = 0.0f;
        for (int i = 0; i < KEYS / SHARED_BY; i++) {
            float weight = scores[i] == -INFINITY ? 0.0f : expf(scores[i] - peak);
            weights[own][part + i * SHARED_BY] = weight;
            sum += weight;
        }
        for (int by = SHARED_BY / 2; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
        total = total * shrink + sum;
        largest = peak;
        __syncthreads();
        for (int item = thread; item < KEYS * WIDTH; item += 256) {
            int row = item / WIDTH, column = item % WIDTH;
            bool inside = start + row < x.keys && column < x.value_width;
            i64 at = value_at + (start + row) * x.value.strides[0] + column * x.value.strides[1];
            key_tile[row][column] = inside ? load<float>(x.value.data, x.value.dtype, at) : 0.0f;
        }
        __syncthreads();
        for (int i = 0; i < WIDTH / SHARED_BY; i++) {
            float value = sums[i] * shrink;
            for (int k = 0; k < KEYS; k++) value = fmaf(weights[own][k], key_tile[k][part + i * SHARED_BY], value);
            sums[i] = value;
        }
        __syncthreads();
    }
    if (query >= x.queries) return;
    for (int i = 0; i < WIDTH / SHARED_BY; i++) {
        int column = part + i * SHARED_BY;
        if (column < x.value_width) {
            x.out[(batch * x.queries + query) * x.value_width + column] = total > 0.0f ? sums[i] / total : 0.0f;
        }
    }
}

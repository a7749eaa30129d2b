// softmax(query · keyᵀ · scale + mask) · value without the scores in memory, in float32. A block has 32 queries and up to WIDTH
// columns of the values, and goes through the keys 32 at a time; eight threads share a query. WIDTH is at least the width of
// keys; with CHUNKED, wider ones are multiplied WIDTH columns at a time.

#define QUERIES 32
#define KEYS 32
#define SHARED_BY 8

// Rows from `first` on of a matrix at `base`, from column `column` on; zeros beyond its ends.
__device__ __forceinline__ void load_tile(
    float (*tile)[WIDTH + 1], const View& from, i64 base, i64 first, i64 rows, i64 column, i64 columns) {
    for (int item = threadIdx.x; item < 32 * WIDTH; item += 256) {
        int row = item / WIDTH, place = item % WIDTH;
        bool inside = first + row < rows && column + place < columns;
        i64 at = base + (first + row) * from.strides[0] + (column + place) * from.strides[1];
        tile[row][place] = inside ? load<float>(from.data, from.dtype, at) : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(256, WIDTH > 64 ? 1 : 2) attention(const Arguments x) {
    __shared__ float query_tile[QUERIES][WIDTH + 1];
    __shared__ float key_tile[KEYS][WIDTH + 1];
    __shared__ float weights[QUERIES][KEYS + 1];
    const Part part = own_part(x, QUERIES, WIDTH);
    const int own = threadIdx.x / SHARED_BY, lane = threadIdx.x % SHARED_BY;
    const i64 query = part.first + own;
#ifndef CHUNKED
    load_tile(query_tile, x.query, part.query, part.first, x.queries, 0, x.width);
#endif
    float sums[WIDTH / SHARED_BY] = {};
    float largest = -INFINITY, total = 0.0f;
    for (i64 start = 0; start < x.keys; start += KEYS) {
        float scores[KEYS / SHARED_BY] = {};
        for (i64 chunk = 0; chunk < x.width; chunk += WIDTH) {
#ifdef CHUNKED
            load_tile(query_tile, x.query, part.query, part.first, x.queries, chunk, x.width);
#endif
            load_tile(key_tile, x.key, part.key, start, x.keys, chunk, x.width);
            __syncthreads();
            for (int i = 0; i < KEYS / SHARED_BY; i++) {
                const float* key = key_tile[lane + i * SHARED_BY];
                for (int k = 0; k < WIDTH; k++) scores[i] = fmaf(query_tile[own][k], key[k], scores[i]);
            }
#ifdef CHUNKED
            __syncthreads();
#endif
        }
        float peak = largest;
        for (int i = 0; i < KEYS / SHARED_BY; i++) {
            scores[i] = score_of(x, part, query, start + lane + i * SHARED_BY, scores[i]);
            peak = fmaxf(peak, scores[i]);
        }
        for (int by = SHARED_BY / 2; by > 0; by /= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffff, peak, by));
        float shrink = peak == -INFINITY ? 1.0f : expf(largest - peak);
        float sum = 0.0f;
        for (int i = 0; i < KEYS / SHARED_BY; i++) {
            float weight = scores[i] == -INFINITY ? 0.0f : expf(scores[i] - peak);
            weights[own][lane + i * SHARED_BY] = weight;
            sum += weight;
        }
        for (int by = SHARED_BY / 2; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
        total = total * shrink + sum;
        largest = peak;
        __syncthreads();
        load_tile(key_tile, x.value, part.value, start, x.keys, part.column, x.value_width);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < WIDTH / SHARED_BY; i++) {
            float value = sums[i] * shrink;
            for (int k = 0; k < KEYS; k++) value = fmaf(weights[own][k], key_tile[k][lane + i * SHARED_BY], value);
            sums[i] = value;
        }
        __syncthreads();
    }
    if (query >= x.queries) return;
#pragma unroll
    for (int i = 0; i < WIDTH / SHARED_BY; i++) {
        i64 column = part.column + lane + i * SHARED_BY;
        if (column >= x.value_width) continue;
        i64 at = (part.batch * x.queries + query) * x.value_width + column;
        store(x.out, x.dtype, at, total == 0.0f ? 0.0f : sums[i] / total);
    }
}

// softmax(query · keyᵀ · scale + mask) · value on tensor cores, for operands of 16 bits, without the scores in memory. A block
// has 64 queries, 16 per warp, and VALUES columns of the values, and goes through the keys 64 at a time. Scores, softmax and
// sums are float32; the weights are rounded to the operands' type before they are multiplied with the values. From sm_80 on, values
// arrive past the registers while queries are multiplied with keys, and the next keys while weights are multiplied with values.
//
// WIDTH is at least the width of keys; with CHUNKED, wider ones are multiplied WIDTH columns at a time. Q_WHOLE, K_WHOLE and
// V_WHOLE say that an operand is read 16 bytes at a time, see `fetch`.

#define QUERIES 64
#define KEYS 64
#define THREADS 128

// Begins to copy 64 rows from `first` on of a matrix at `base`, from column `column` on; zeros beyond its ends.
template <int WIDE, bool WHOLE> __device__ __forceinline__ void copy_tile(
    u16 (*tile)[WIDE + PADDING], const View& from, i64 base, i64 first, i64 rows, i64 column, i64 columns) {
#pragma unroll 4
    for (int vector = threadIdx.x; vector < 64 * WIDE / 8; vector += THREADS) {
        const int row = vector / (WIDE / 8), place = vector % (WIDE / 8) * 8;
        i64 inside = first + row < rows ? columns - column - place : 0;
        i64 at = base + (first + row) * from.strides[0] + (column + place) * from.strides[1];
        const u16* eight = (const u16*)from.data + at;
        if (WHOLE) {
            begin_copy(&tile[row][place], inside > 0 ? eight : nullptr, from.data);
        } else {
            *(uint4*)&tile[row][place] = fetch(eight, from.strides[1], inside);
        }
    }
}

// The hardware has powers of two, two units in the last place from the truth.
__device__ __forceinline__ float exponential(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value * 1.44269504f));
    return result;
}

// Two weights as operands.
__device__ __forceinline__ u32 rounded(float low, float high) {
#ifdef BRAIN
    return float_to_brain(low) | (u32)float_to_brain(high) << 16;
#else
    return float_to_half(low) | (u32)float_to_half(high) << 16;
#endif
}

// The fragments of a warp's 16 queries in a tile, at column k.
__device__ __forceinline__ void load_queries(u32* to, const u16 (*tile)[WIDTH + PADDING], int k) {
    const int lane = threadIdx.x % 32;
    load_matrices(to, &tile[threadIdx.x / 32 * 16 + lane % 16][k + lane / 16 * 8]);
}

// Adds the products of a warp's queries with the keys of a tile, at column k.
__device__ __forceinline__ void multiply_keys(float (*scores)[4], const u32* query, const u16 (*tile)[WIDTH + PADDING], int k) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
        u32 key[4];
        load_matrices(key, &tile[j * 16 + lane % 8 + lane / 16 * 8][k + lane / 8 % 2 * 8]);
        multiply(scores[2 * j], query, key);
        multiply(scores[2 * j + 1], query, key + 2);
    }
}

// The softmax of two queries, which four lanes share, so far.
struct Softmax {
    float largest[2], total[2];
};

// Makes weights of scores, relative to the largest score so far, and brings what was summed up before to the same scale. Element
// i of each group of four belongs to query i / 2 and is one of two neighbouring keys.
__device__ __forceinline__ void soften(
    const Arguments& x, const Part& part, i64 query, i64 start, Softmax& state, float (*scores)[4], float (*sums)[4]) {
    float peak[2] = {state.largest[0], state.largest[1]};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            i64 key = start + j * 8 + threadIdx.x % 4 * 2 + i % 2;
            scores[j][i] = score_of(x, part, query + i / 2 * 8, key, scores[j][i]);
            peak[i / 2] = fmaxf(peak[i / 2], scores[j][i]);
        }
    float shrink[2], reference[2], sum[2] = {};
#pragma unroll
    for (int row = 0; row < 2; row++) {
        for (int by = 2; by > 0; by /= 2) peak[row] = fmaxf(peak[row], __shfl_xor_sync(0xffffffff, peak[row], by));
        // While a query has seen nothing, any reference will do.
        reference[row] = peak[row] == -INFINITY ? 0.0f : peak[row];
        shrink[row] = exponential(state.largest[row] - reference[row]);
        state.largest[row] = peak[row];
    }
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[j][i] = exponential(scores[j][i] - reference[i / 2]);
            sum[i / 2] += scores[j][i];
        }
#pragma unroll
    for (int row = 0; row < 2; row++) {
        for (int by = 2; by > 0; by /= 2) sum[row] += __shfl_xor_sync(0xffffffff, sum[row], by);
        state.total[row] = state.total[row] * shrink[row] + sum[row];
    }
#pragma unroll
    for (int j = 0; j < VALUES / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[j][i] *= shrink[i / 2];
}

// Adds the products of weights and the values of a tile. Sums of scores lie as the left operand's fragments do.
__device__ __forceinline__ void multiply_values(float (*sums)[4], const float (*weights)[4], const u16 (*tile)[VALUES + PADDING]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        const float *near = weights[2 * k], *far = weights[2 * k + 1];
        u32 weight[4] = {rounded(near[0], near[1]), rounded(near[2], near[3]), rounded(far[0], far[1]), rounded(far[2], far[3])};
#pragma unroll
        for (int j = 0; j < VALUES / 16; j++) {
            u32 value[4];
            load_matrices_transposed(value, &tile[k * 16 + lane % 16][j * 16 + lane / 16 * 8]);
            multiply(sums[2 * j], weight, value);
            multiply(sums[2 * j + 1], weight, value + 2);
        }
    }
}

__device__ __forceinline__ void store_results(
    const Arguments& x, const Part& part, i64 query, const Softmax& state, const float (*sums)[4]) {
#pragma unroll
    for (int row = 0; row < 2; row++) {
        if (query + row * 8 >= x.queries) continue;
        const float scale = state.total[row] == 0.0f ? 0.0f : 1.0f / state.total[row];
#pragma unroll
        for (int j = 0; j < VALUES / 8; j++) {
            i64 column = part.column + j * 8 + threadIdx.x % 4 * 2;
            if (column >= x.value_width) continue;
            i64 at = (part.batch * x.queries + query + row * 8) * x.value_width + column;
            const float* pair = &sums[j][2 * row];
            store_pair(x.out, x.dtype, at, pair[0] * scale, pair[1] * scale, column + 1 < x.value_width);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_tensor_cores(const Arguments x) {
    __shared__ __align__(16) u16 key_tile[KEYS][WIDTH + PADDING];
    __shared__ __align__(16) u16 value_tile[KEYS][VALUES + PADDING];
    const Part part = own_part(x, QUERIES, VALUES);
    const i64 query = part.first + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
#ifdef CHUNKED
    __shared__ __align__(16) u16 query_tile[QUERIES][WIDTH + PADDING];
#else
    u32 queries[WIDTH / 16][4];
    copy_tile<WIDTH, Q_WHOLE>(key_tile, x.query, part.query, part.first, x.queries, 0, x.width);
    wait_for_copies();
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++) load_queries(queries[k], key_tile, k * 16);
    __syncthreads();
    copy_tile<WIDTH, K_WHOLE>(key_tile, x.key, part.key, 0, x.keys, 0, x.width);
#endif
    Softmax state = {{-INFINITY, -INFINITY}, {}};
    float sums[VALUES / 8][4] = {};
    const i64 last = part.first + QUERIES, visible = x.causal && last < x.keys ? last : x.keys;
    for (i64 start = 0; start < visible; start += KEYS) {
        float scores[KEYS / 8][4] = {};
        // The keys are here, and nobody needs the last values any more.
        wait_for_copies();
        copy_tile<VALUES, V_WHOLE>(value_tile, x.value, part.value, start, x.keys, part.column, x.value_width);
#ifdef CHUNKED
        for (i64 chunk = 0; chunk < x.width; chunk += WIDTH) {
            copy_tile<WIDTH, Q_WHOLE>(query_tile, x.query, part.query, part.first, x.queries, chunk, x.width);
            copy_tile<WIDTH, K_WHOLE>(key_tile, x.key, part.key, start, x.keys, chunk, x.width);
            wait_for_copies();
#pragma unroll
            for (int k = 0; k < WIDTH; k += 16) {
                u32 queries[4];
                load_queries(queries, query_tile, k);
                multiply_keys(scores, queries, key_tile, k);
            }
            __syncthreads();
        }
        soften(x, part, query, start, state, scores, sums);
#else
#pragma unroll
        for (int k = 0; k < WIDTH / 16; k++) multiply_keys(scores, queries[k], key_tile, k * 16);
        soften(x, part, query, start, state, scores, sums);
        // The values are here, and nobody needs the last keys any more.
        wait_for_copies();
        if (start + KEYS < visible) {
            copy_tile<WIDTH, K_WHOLE>(key_tile, x.key, part.key, start + KEYS, x.keys, 0, x.width);
        }
#endif
        multiply_values(sums, scores, value_tile);
    }
    store_results(x, part, query, state, sums);
}

// out = a · b + bias on tensor cores, as gemm.cu for operands of 16 bits. A block computes TILE×TILE results, a warp TILE/2×32
// of them. While it multiplies one step's tiles in shared memory, the next ones are under way: from sm_80 on two steps' tiles, copied
// past the registers, where both operands are read 16 bytes at a time; else one step's, in registers.
//
// A_WHOLE and B_WHOLE say that an operand is read 16 bytes at a time, see `fetch`; RIGHT_BY_ROWS, that neighbours of `b` in
// memory are neighbours in a row, and not in a column.

#define DEPTH 32
#define THREADS (TILE * 2)
#define WARP_ROWS (TILE / 2)
#define WARP_COLUMNS 32
// Of eight elements: what a thread reads of each operand for a step.
#define VECTORS 2
// Of one multiprocessor at least; sm_75 has shared memory for one large one.
#define BLOCKS (TILE <= 64 ? 4 : __CUDA_ARCH__ >= 800 ? 2 : 1)

#ifdef RIGHT_BY_ROWS
#define B_LINES DEPTH
#define B_LINE TILE
#else
#define B_LINES TILE
#define B_LINE DEPTH
#endif

#if defined(COPIES_ALONE) && A_WHOLE && B_WHOLE
#define STAGES 3
#else
#define STAGES 2
#endif

#if STAGES > 2
// Makes a group of the copies that this thread has begun since the last.
__device__ __forceinline__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all of this thread's groups but the last have arrived. Those of others have after a barrier behind that.
__device__ __forceinline__ void wait_for_all_groups_but_one() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }
#endif

// Where eight neighbours begin in a tile whose lines have LENGTH elements. Their places along a line are turned with the line's number,
// so that of eight lines those at the same column are in different banks.
template <int LENGTH> __device__ __forceinline__ int spot(int line, int column) {
    const int turn = LENGTH == 32 ? line / 2 % 4 : line % 8;
    return line * LENGTH + (column / 8 ^ turn) * 8;
}

// What one thread reads of `a`: in rows `line` and `line` + TILE/2 of the tile, eight elements from `k` on.
struct Left {
    int line, k;
#ifdef CONVOLUTION
    Pixel pixels[VECTORS];
    Tap tap;
#else
    const u16* from[VECTORS];
#endif
    bool exists[VECTORS];

    __device__ __forceinline__ Left(const Arguments& x, const Tile& tile) : line(threadIdx.x / 4), k(threadIdx.x % 4 * 8) {
#ifdef CONVOLUTION
        tap = tap_at(x, k);
#endif
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            i64 row = tile.row + line + i * (THREADS / 4);
            exists[i] = row < x.rows;
#ifdef CONVOLUTION
            pixels[i] = pixel_at(x, tile.a, row);
#else
            from[i] = (const u16*)x.a.data + (tile.a + row * x.a.strides[0] + k * x.a.strides[1]);
#endif
        }
    }

    // Where its eight elements lie, all or none of which are inside; null for none. Of a convolution, they are channels under one tap.
    __device__ __forceinline__ const u16* together(const Arguments& x, int i) const {
        if (!exists[i] || k >= x.inner) return nullptr;
#ifdef CONVOLUTION
        i64 at = under(x, pixels[i], tap);
        return at < 0 ? nullptr : (const u16*)x.a.data + at;
#else
        return from[i];
#endif
    }

    __device__ __forceinline__ uint4 vector(const Arguments& x, int i) const {
#if A_WHOLE
        return fetch_together(together(x, i));
#elif !defined(CONVOLUTION)
        return fetch(from[i], x.a.strides[1], exists[i] ? x.inner - k : 0);
#else
        u32 pairs[4] = {};
        Tap each = tap;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            i64 at = exists[i] && k + j < x.inner ? under(x, pixels[i], each) : -1;
            if (at >= 0) pairs[j / 2] |= (u32)((const u16*)x.a.data)[at] << j % 2 * 16;
            advance(x, each, 1);
        }
        return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
#endif
    }

    __device__ __forceinline__ void step(const Arguments& x) {
        k += DEPTH;
#ifdef CONVOLUTION
        advance(x, tap, DEPTH);
#else
        for (int i = 0; i < VECTORS; i++) from[i] += DEPTH * x.a.strides[1];
#endif
    }
};

// What one thread reads of `b`: eight elements along a line, which is a row or a column.
struct Right {
    int line, place, k;
    const u16* from[VECTORS];
    i64 inside[VECTORS];

    __device__ __forceinline__ Right(const Arguments& x, const Tile& tile)
        : line(threadIdx.x / (B_LINE / 8)), place(threadIdx.x % (B_LINE / 8) * 8) {
#ifdef RIGHT_BY_ROWS
        k = line;
#else
        k = place;
#endif
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
#ifdef RIGHT_BY_ROWS
            i64 column = tile.column + place, row = line + i * (THREADS / (B_LINE / 8));
            inside[i] = x.columns - column;
#else
            i64 column = tile.column + line + i * (THREADS / (B_LINE / 8)), row = k;
            inside[i] = column < x.columns;
#endif
            from[i] = (const u16*)x.b.data + (tile.b + row * x.b.strides[0] + column * x.b.strides[1]);
        }
    }

    // How many of its elements are inside.
    __device__ __forceinline__ i64 count(const Arguments& x, int i) const {
#ifdef RIGHT_BY_ROWS
        return k + i * (THREADS / (B_LINE / 8)) < x.inner ? inside[i] : 0;
#else
        return inside[i] ? x.inner - k : 0;
#endif
    }

    // As that of `Left`.
    __device__ __forceinline__ const u16* together(const Arguments& x, int i) const {
        return count(x, i) > 0 ? from[i] : nullptr;
    }

    __device__ __forceinline__ uint4 vector(const Arguments& x, int i) const {
#if B_WHOLE
        return fetch_together(together(x, i));
#elif defined(RIGHT_BY_ROWS)
        return fetch(from[i], x.b.strides[1], count(x, i));
#else
        return fetch(from[i], x.b.strides[0], count(x, i));
#endif
    }

    __device__ __forceinline__ void step(const Arguments& x) {
        k += DEPTH;
        for (int i = 0; i < VECTORS; i++) from[i] += DEPTH * x.b.strides[0];
    }
};

// The product of the tiles of one step, added to a warp's sums.
__device__ __forceinline__ void multiply_tiles(
    const u16* a_tile, const u16* b_tile, int warp_row, int warp_column,
    float (*sums)[WARP_COLUMNS / 8][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        u32 a[WARP_ROWS / 16][4], b[WARP_COLUMNS / 16][4];
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; i++) {
            load_matrices(a[i], a_tile + spot<DEPTH>(warp_row + i * 16 + lane % 16, k + lane / 16 * 8));
        }
#pragma unroll
        for (int j = 0; j < WARP_COLUMNS / 16; j++) {
            int column = warp_column + j * 16;
#ifdef RIGHT_BY_ROWS
            load_matrices_transposed(b[j], b_tile + spot<B_LINE>(k + lane % 16, column + lane / 16 * 8));
#else
            load_matrices(b[j], b_tile + spot<B_LINE>(column + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
#endif
        }
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; i++)
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; j++) multiply(sums[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }
}

__device__ __forceinline__ void store_results(
    const Arguments& x, const Tile& tile, int warp_row, int warp_column, const float (*sums)[WARP_COLUMNS / 8][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < WARP_COLUMNS / 8; j++) {
        i64 column = tile.column + warp_column + j * 8 + lane % 4 * 2;
        if (column >= x.columns) continue;
        const bool both = column + 1 < x.columns;
        float bias[2] = {};
        if (x.bias.data) {
            bias[0] = load<float>(x.bias.data, x.bias.dtype, tile.bias + column * x.bias.strides[0]);
            if (both) bias[1] = load<float>(x.bias.data, x.bias.dtype, tile.bias + (column + 1) * x.bias.strides[0]);
        }
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 8; i++) {
            i64 row = tile.row + warp_row + i * 8 + lane / 4;
            if (row >= x.rows) continue;
            const float* pair = &sums[i / 2][j][i % 2 * 2];
            i64 at = tile.batch * x.out_batch + row * x.out_row + column;
            store_pair(x.out, x.dtype, at, pair[0] + bias[0], pair[1] + bias[1], both);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gemm_tensor_cores(const Arguments x) {
    __shared__ __align__(16) u16 a_tile[STAGES][TILE * DEPTH];
    __shared__ __align__(16) u16 b_tile[STAGES][B_LINES * B_LINE];
    const Tile tile = own_tile(x, TILE);
    const int warp = threadIdx.x / 32, warp_row = warp % 2 * WARP_ROWS, warp_column = warp / 2 * WARP_COLUMNS;
    Left left(x, tile);
    Right right(x, tile);
    // Where a thread's vectors go in a tile; the second goes as many lines below as there are between both.
    const int a_below = THREADS / 4, b_below = THREADS / (B_LINE / 8), a_place = threadIdx.x % 4 * 8;
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4] = {};
    const int steps = ((int)x.inner + DEPTH - 1) / DEPTH;
#if STAGES > 2
    // At `step`, the tiles of all steps before it have been multiplied, those of the two after it are under way.
    for (int step = 1 - STAGES; step < steps; step++) {
        if (step >= 0) {
            wait_for_all_groups_but_one();
            // Now all threads' copies of this step have arrived, and nobody reads those of the step before any more.
            __syncthreads();
        }
        const int ahead = step + STAGES - 1, to = ahead % STAGES;
        if (ahead < steps) {
#pragma unroll
            for (int i = 0; i < VECTORS; i++) {
                begin_copy(a_tile[to] + spot<DEPTH>(left.line + i * a_below, a_place), left.together(x, i), x.a.data);
                begin_copy(b_tile[to] + spot<B_LINE>(right.line + i * b_below, right.place), right.together(x, i), x.b.data);
            }
            left.step(x);
            right.step(x);
        }
        end_group();
        if (step >= 0) multiply_tiles(a_tile[step % STAGES], b_tile[step % STAGES], warp_row, warp_column, sums);
    }
#else
    uint4 a_next[VECTORS], b_next[VECTORS];
    for (int step = 0; step <= steps; step++) {
        // Of this step, which is multiplied the next time around.
        const bool more = step < steps;
#pragma unroll
        for (int i = 0; more && i < VECTORS; i++) {
            a_next[i] = left.vector(x, i);
            b_next[i] = right.vector(x, i);
        }
        if (step > 0) multiply_tiles(a_tile[(step + 1) % 2], b_tile[(step + 1) % 2], warp_row, warp_column, sums);
        if (!more) break;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            *(uint4*)(a_tile[step % 2] + spot<DEPTH>(left.line + i * a_below, a_place)) = a_next[i];
            *(uint4*)(b_tile[step % 2] + spot<B_LINE>(right.line + i * b_below, right.place)) = b_next[i];
        }
        left.step(x);
        right.step(x);
        __syncthreads();
    }
#endif
    store_results(x, tile, warp_row, warp_column, sums);
}

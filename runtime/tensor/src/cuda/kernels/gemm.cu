// out = a · b + bias, for a batch of matrices at any strides; with CONVOLUTION, `a` is gathered from an image on the fly
// (implicit GEMM). Products in float32. A block computes 64×64 results, a thread 4×4 of them.

#define TILE 64
#define DEPTH 16
#define PER_THREAD 4

struct Arguments {
    void* out;
    View a, b, bias;
    i64 batch_lengths[MAX_RANK], a_batch[MAX_RANK], b_batch[MAX_RANK];
    // Of the result, in elements.
    i64 out_row, out_batch;
    // Of a convolution: the image [B,C,H,W], then per axis (height, width): taps, output length, step, tap_step, shift, divide.
    i64 channels, lengths[2], taps[2], outputs[2], step[2], tap_step[2], shift[2], divide[2];
    i64 rows, columns, inner;
    int batch_rank, dtype;
};

// The position in the image under a tap, or -1.
__device__ __forceinline__ i64 under(const Arguments& x, int axis, i64 output, i64 tap) {
    i64 place = output * x.step[axis] + tap * x.tap_step[axis] - x.shift[axis];
    if (place < 0 || place % x.divide[axis] != 0) return -1;
    place /= x.divide[axis];
    return place < x.lengths[axis] ? place : -1;
}

__device__ __forceinline__ float left(const Arguments& x, i64 base, i64 row, i64 k) {
#ifdef CONVOLUTION
    i64 channel = k % x.channels, tap = k / x.channels;
    i64 pixel = row % (x.outputs[0] * x.outputs[1]), image = row / (x.outputs[0] * x.outputs[1]);
    i64 y = under(x, 0, pixel / x.outputs[1], tap / x.taps[1]);
    i64 z = under(x, 1, pixel % x.outputs[1], tap % x.taps[1]);
    if (y < 0 || z < 0) return 0.0f;
    i64 at = base + image * x.a.strides[0] + channel * x.a.strides[1] + y * x.a.strides[2] + z * x.a.strides[3];
    return load<float>(x.a.data, x.a.dtype, at);
#else
    return load<float>(x.a.data, x.a.dtype, base + row * x.a.strides[0] + k * x.a.strides[1]);
#endif
}

__device__ __forceinline__ float right(const Arguments& x, i64 base, i64 k, i64 column) {
#ifdef CONVOLUTION
    i64 channel = k % x.channels, tap = k / x.channels;
    i64 at = base + column * x.b.strides[0] + channel * x.b.strides[1];
    at += tap / x.taps[1] * x.b.strides[2] + tap % x.taps[1] * x.b.strides[3];
    return load<float>(x.b.data, x.b.dtype, at);
#else
    return load<float>(x.b.data, x.b.dtype, base + k * x.b.strides[0] + column * x.b.strides[1]);
#endif
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm(const Arguments x) {
    __shared__ float a_tile[DEPTH][TILE + 4];
    __shared__ float b_tile[DEPTH][TILE + 4];
    const i64 column_tiles = (x.columns + TILE - 1) / TILE, row_tiles = (x.rows + TILE - 1) / TILE;
    i64 left_over = blockIdx.x;
    const i64 first_column = left_over % column_tiles * TILE;
    left_over /= column_tiles;
    const i64 first_row = left_over % row_tiles * TILE;
    const i64 batch = left_over / row_tiles;
    i64 a_base = x.a.offset, b_base = x.b.offset, bias_base = x.bias.offset + batch * x.bias.strides[1];
    left_over = batch;
    for (int d = x.batch_rank - 1; d >= 0; d--) {
        i64 place = left_over % x.batch_lengths[d];
        left_over /= x.batch_lengths[d];
        a_base += place * x.a_batch[d];
        b_base += place * x.b_batch[d];
    }
    const int thread = threadIdx.x, tile_row = thread / 16 * PER_THREAD, tile_column = thread % 16 * PER_THREAD;
    float sums[PER_THREAD][PER_THREAD] = {};
    for (i64 start = 0; start < x.inner; start += DEPTH) {
        for (int part = 0; part < TILE * DEPTH / 256; part++) {
            int item = thread + part * 256;
            // Neighbouring threads read neighbours in memory, as far as the usual layouts go.
            int row = item / DEPTH, k = item % DEPTH;
            bool inside = first_row + row < x.rows && start + k < x.inner;
            a_tile[k][row] = inside ? left(x, a_base, first_row + row, start + k) : 0.0f;
#ifdef RIGHT_BY_ROWS
            int column = item % TILE, depth = item / TILE;
#else
            int column = item / DEPTH, depth = item % DEPTH;
#endif
            inside = first_column + column < x.columns && start + depth < x.inner;
            b_tile[depth][column] = inside ? right(x, b_base, start + depth, first_column + column) : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            float rows[PER_THREAD], columns[PER_THREAD];
            for (int i = 0; i < PER_THREAD; i++) rows[i] = a_tile[k][tile_row + i];
            for (int i = 0; i < PER_THREAD; i++) columns[i] = b_tile[k][tile_column + i];
            for (int i = 0; i < PER_THREAD; i++)
                for (int j = 0; j < PER_THREAD; j++) sums[i][j] = fmaf(rows[i], columns[j], sums[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < PER_THREAD; i++) {
        i64 row = first_row + tile_row + i;
        if (row >= x.rows) break;
        for (int j = 0; j < PER_THREAD; j++) {
            i64 column = first_column + tile_column + j;
            if (column >= x.columns) break;
            float value = sums[i][j];
            if (x.bias.data) value += load<float>(x.bias.data, x.bias.dtype, bias_base + column * x.bias.strides[0]);
            store(x.out, x.dtype, batch * x.out_batch + row * x.out_row + column, value);
        }
    }
}

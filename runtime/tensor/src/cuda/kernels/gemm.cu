// out = a · b + bias, for a batch of matrices at any strides; with CONVOLUTION, `a` is gathered from an image on the fly
// (implicit GEMM). Products in float32. A block computes 64×64 results, a thread 4×4 of them.

#define TILE 64
#define DEPTH 16
#define PER_THREAD 4
// Elements of each operand that a thread reads for a step; those of `a` are in rows 16 apart.
#define READS (TILE * DEPTH / 256)

extern "C" __global__ void __launch_bounds__(256, 2) gemm(const Arguments x) {
    __shared__ float a_tile[DEPTH][TILE + 4];
    __shared__ float b_tile[DEPTH][TILE + 4];
    const Tile tile = own_tile(x, TILE);
    const int thread = threadIdx.x, tile_row = thread / 16 * PER_THREAD, tile_column = thread % 16 * PER_THREAD;
    // Neighbouring threads read neighbours in memory, as far as the usual layouts go.
    const int line = thread / DEPTH, depth = thread % DEPTH;
#ifdef CONVOLUTION
    Tap tap = tap_at(x, depth);
    Pixel pixels[READS];
    for (int i = 0; i < READS; i++) pixels[i] = pixel_at(x, tile.a, tile.row + line + i * (256 / DEPTH));
#endif
    float sums[PER_THREAD][PER_THREAD] = {};
    for (i64 start = 0; start < x.inner; start += DEPTH) {
        for (int i = 0; i < READS; i++) {
            const int row = line + i * (256 / DEPTH);
            bool inside = tile.row + row < x.rows && start + depth < x.inner;
#ifdef CONVOLUTION
            i64 at = inside ? under(x, pixels[i], tap) : -1;
            a_tile[depth][row] = at >= 0 ? load<float>(x.a.data, x.a.dtype, at) : 0.0f;
#else
            i64 at = tile.a + (tile.row + row) * x.a.strides[0] + (start + depth) * x.a.strides[1];
            a_tile[depth][row] = inside ? load<float>(x.a.data, x.a.dtype, at) : 0.0f;
#endif
#ifdef RIGHT_BY_ROWS
            int column = thread % TILE, k = thread / TILE + i * (256 / TILE);
#else
            int column = row, k = depth;
#endif
            inside = tile.column + column < x.columns && start + k < x.inner;
            at = tile.b + (start + k) * x.b.strides[0] + (tile.column + column) * x.b.strides[1];
            b_tile[k][column] = inside ? load<float>(x.b.data, x.b.dtype, at) : 0.0f;
        }
#ifdef CONVOLUTION
        advance(x, tap, DEPTH);
#endif
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
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
        i64 row = tile.row + tile_row + i;
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            i64 column = tile.column + tile_column + j;
            if (row >= x.rows || column >= x.columns) continue;
            float value = sums[i][j];
            if (x.bias.data) value += load<float>(x.bias.data, x.bias.dtype, tile.bias + column * x.bias.strides[0]);
            store(x.out, x.dtype, tile.batch * x.out_batch + row * x.out_row + column, value);
        }
    }
}

// The argument of both kernels that multiply matrices, and where the tile of a block lies.

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

// Of one block: its first row and column, the batch's matrix, and where that one's operands begin.
struct Tile {
    i64 row, column, batch, a, b, bias;
};

__device__ __forceinline__ Tile own_tile(const Arguments& x, int size) {
    const i64 columns = (x.columns + size - 1) / size, rows = (x.rows + size - 1) / size;
    Tile tile;
    i64 rest = blockIdx.x;
    tile.column = rest % columns * size;
    rest /= columns;
    tile.row = rest % rows * size;
    tile.batch = rest = rest / rows;
    tile.a = x.a.offset;
    tile.b = x.b.offset;
    tile.bias = x.bias.offset + tile.batch * x.bias.strides[1];
    for (int d = x.batch_rank - 1; d >= 0; d--) {
        i64 place = rest % x.batch_lengths[d];
        rest /= x.batch_lengths[d];
        tile.a += place * x.a_batch[d];
        tile.b += place * x.b_batch[d];
    }
    return tile;
}

#ifdef CONVOLUTION
// Which element of the window an index of the inner dimension stands for; channels go first. Walked, not divided.
struct Tap {
    int channel, y, x;
};

__device__ __forceinline__ Tap tap_at(const Arguments& x, int index) {
    int tap = index / (int)x.channels, across = (int)x.taps[1];
    return {index - tap * (int)x.channels, tap / across, tap % across};
}

__device__ __forceinline__ void advance(const Arguments& x, Tap& tap, int by) {
    tap.channel += by;
    while (tap.channel >= (int)x.channels) {
        tap.channel -= (int)x.channels;
        if (++tap.x == (int)x.taps[1]) {
            tap.x = 0;
            tap.y++;
        }
    }
}

// An output pixel: its image's place in memory, and the position in it under the window's first element, before `divide`.
struct Pixel {
    i64 image;
    int y, x;
};

__device__ __forceinline__ Pixel pixel_at(const Arguments& x, i64 base, i64 row) {
    i64 line = row / x.outputs[1], image = line / x.outputs[0];
    Pixel pixel;
    pixel.image = base + image * x.a.strides[0];
    pixel.y = (int)((line - image * x.outputs[0]) * x.step[0] - x.shift[0]);
    pixel.x = (int)((row - line * x.outputs[1]) * x.step[1] - x.shift[1]);
    return pixel;
}

// Where the element under a tap lies; -1 where there is none.
__device__ __forceinline__ i64 under(const Arguments& x, const Pixel& pixel, const Tap& tap) {
    int y = pixel.y + tap.y * (int)x.tap_step[0], z = pixel.x + tap.x * (int)x.tap_step[1];
    const int down = (int)x.divide[0], across = (int)x.divide[1];
    if (down != 1) {
        if (y % down != 0) return -1;
        y /= down;
    }
    if (across != 1) {
        if (z % across != 0) return -1;
        z /= across;
    }
    if ((u32)y >= (u32)x.lengths[0] || (u32)z >= (u32)x.lengths[1]) return -1;
    return pixel.image + tap.channel * x.a.strides[1] + y * x.a.strides[2] + z * x.a.strides[3];
}
#endif

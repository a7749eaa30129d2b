// Which places of a gradient are edges: ridges above `high`, and those above `low` that touch them, however far along. Nothing
// waits for the host: ridges that touch become one tree of labels, whose root is the least of their places, and an edge is what is in
// a tree with a strong one.
//
// STEP: RIDGES gives every ridge itself as a label, UNITE joins trees of neighbours, FLATTEN brings labels nearer to their roots,
// MARK notes at the root that a tree holds a strong ridge, EDGES writes 1 and 0. A thread for each pixel.

#define RIDGES 0
#define UNITE 1
#define FLATTEN 2
#define MARK 3
#define EDGES 4
#define NONE 0xffffffffu
// Steps towards the root in one launch of FLATTEN.
#define HOPS 64

struct Arguments {
    void* out;
    // Row-major planes.
    const float* across;
    const float* down;
    const u32* labels;
    const u32* marks;
    u64 elements;
    i64 height, width;
    float low, high;
};

__device__ __forceinline__ float strength(const Arguments& x, i64 at) {
    return sqrtf(x.across[at] * x.across[at] + x.down[at] * x.down[at] + 1e-6f);
}

// Whether it is stronger than its neighbours on both sides, in the direction of the gradient to the nearest 45 degrees. Beyond
// the border there is nothing.
__device__ __forceinline__ bool is_ridge(const Arguments& x, i64 at, i64 row, i64 column) {
    float angle = 180.0f * atan2f(x.down[at], x.across[at]) / 3.14159274f;
    int direction = (int)rintf(angle / 45.0f) & 3;
    i64 right = direction == 0 || direction == 1 ? 1 : direction == 2 ? 0 : -1, below = direction == 0 ? 0 : 1;
    for (int side = -1; side <= 1; side += 2) {
        i64 y = row + below * side, beside = column + right * side;
        bool exists = y >= 0 && y < x.height && beside >= 0 && beside < x.width;
        float neighbor = exists ? strength(x, at + (below * x.width + right) * side) : 0.0f;
        if (!(strength(x, at) - neighbor > 0.0f)) return false;
    }
    return true;
}

// Others change labels at the same time, so even looking at one is atomic.
__device__ __forceinline__ u32 look(u32* labels, u32 at) { return atomicOr(labels + at, 0u); }

__device__ __forceinline__ u32 root_among_changes(u32* labels, u32 at) {
    for (u32 label = look(labels, at); label != at; label = look(labels, at)) at = label;
    return at;
}

__device__ __forceinline__ void unite(u32* labels, u32 a, u32 b) {
    for (;;) {
        a = root_among_changes(labels, a);
        b = root_among_changes(labels, b);
        if (a == b) return;
        u32 larger = max(a, b), smaller = min(a, b);
        u32 before = atomicMin(labels + larger, smaller);
        if (before == larger) return;
        // Somebody hung it elsewhere meanwhile: that tree is united too.
        a = before;
        b = smaller;
    }
}

__device__ __forceinline__ u32 root(const u32* labels, u32 at) {
    while (labels[at] != at) at = labels[at];
    return at;
}

extern "C" __global__ void __launch_bounds__(256) canny(const Arguments x) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += step) {
        i64 column = (i64)i % x.width, row = (i64)i / x.width % x.height;
        u32* changed = (u32*)x.out;
#if STEP == RIDGES
        changed[i] = strength(x, i) > x.low && is_ridge(x, i, row, column) ? (u32)i : NONE;
#elif STEP == UNITE
        if (look(changed, i) == NONE) continue;
        // The others of its eight neighbours look for it.
        for (int neighbor = 0; neighbor < 4; neighbor++) {
            i64 above = neighbor < 3 ? 1 : 0, beside = column + (neighbor < 3 ? neighbor - 1 : -1);
            if (row < above || beside < 0 || beside >= x.width) continue;
            u32 at = (u32)((i64)i - above * x.width + beside - column);
            if (look(changed, at) != NONE) unite(changed, (u32)i, at);
        }
#elif STEP == FLATTEN
        u32 label = look(changed, i);
        if (label == NONE) continue;
        for (int hop = 0; hop < HOPS; hop++) {
            u32 next = look(changed, label);
            if (next == label) break;
            label = next;
        }
        atomicMin(changed + i, label);
#elif STEP == MARK
        if (x.labels[i] != NONE && strength(x, i) > x.high) atomicOr(changed + root(x.labels, i), 1u);
#else
        ((float*)x.out)[i] = x.labels[i] != NONE && x.marks[root(x.labels, i)] ? 1.0f : 0.0f;
#endif
    }
}

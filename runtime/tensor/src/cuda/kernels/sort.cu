// A stable merge sort of rows that lie one after the other. What is sorted are items: an element's key, whose order as an
// unsigned number is that of the elements (not-a-number last), and behind it its place, so that no two are equal. Keys of 32 bits
// share one number with the place; int64, with WIDE, takes two.
//
// STEP: TILES sorts runs of TILE in shared memory, MERGE merges pairs of runs, PLACES writes the places of the first `kept` items
// of each row. HEADS sorts as TILES does, and of each run writes the first `kept` only; with FROM_ITEMS, runs of items.

#define TILES 0
#define MERGE 1
#define PLACES 2
#define HEADS 3

#ifdef WIDE
struct Item { u64 key, place; };
__device__ __forceinline__ bool less(const Item& a, const Item& b) { return a.key < b.key || (a.key == b.key && a.place < b.place); }
__device__ __forceinline__ i64 place_of(const Item& item) { return (i64)item.place; }
__device__ __forceinline__ Item last_item() { return Item{~0ULL, ~0ULL}; }
#else
typedef u64 Item;
__device__ __forceinline__ bool less(Item a, Item b) { return a < b; }
__device__ __forceinline__ i64 place_of(Item item) { return (i64)(item & 0xffffffff); }
__device__ __forceinline__ Item last_item() { return ~0ULL; }
#endif

struct Arguments {
    void* out;
    View in;
    const Item* items;
    // Those that the result has.
    u64 elements;
    // Of a row, and how many of it are kept; of the runs that are sorted already.
    i64 length, kept, run;
    i64 descending;
};

#if STEP == TILES || STEP == HEADS
__device__ __forceinline__ Item item_of(const Arguments& x, i64 row, i64 place) {
    const i64 at = x.in.offset + row * x.length + place;
#ifdef FROM_ITEMS
    return x.items[row * x.length + place];
#elif defined(WIDE)
    u64 key = (u64)load<i64>(x.in.data, x.in.dtype, at) ^ 0x8000000000000000ULL;
    return Item{x.descending ? ~key : key, (u64)place};
#else
#ifdef FLOATS
    u32 key = ordered_bits(load<float>(x.in.data, x.in.dtype, at));
#else
    u32 key = (u32)load<i64>(x.in.data, x.in.dtype, at) ^ 0x80000000u;
#endif
    return (u64)(x.descending ? ~key : key) << 32 | (u64)place;
#endif
}

// A bitonic sort of one tile, or as much of it as a power of two that holds the row's part; beyond its end stands what comes
// last.
__device__ __forceinline__ void step(const Arguments& x) {
    __shared__ Item items[TILE];
    const i64 tiles = (x.length + TILE - 1) / TILE;
    const i64 row = blockIdx.x / tiles, start = blockIdx.x % tiles * TILE;
    int used = 2;
    while (used < TILE && used < x.length - start) used *= 2;
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        i64 place = start + i;
        items[i] = place < x.length ? item_of(x, row, place) : last_item();
    }
    for (int size = 2; size <= used; size *= 2) {
        for (int stride = size / 2; stride > 0; stride /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < used / 2; pair += blockDim.x) {
                int i = 2 * pair - (pair & (stride - 1));
                Item a = items[i], b = items[i + stride];
                bool ascending = (i & size) == 0;
                if (ascending ? less(b, a) : less(a, b)) {
                    items[i] = b;
                    items[i + stride] = a;
                }
            }
        }
    }
    __syncthreads();
#if STEP == HEADS
    for (int i = threadIdx.x; i < x.kept; i += blockDim.x) {
        ((Item*)x.out)[(i64)blockIdx.x * x.kept + i] = i < used ? items[i] : last_item();
    }
#else
    for (int i = threadIdx.x; i < used && start + i < x.length; i += blockDim.x) {
        ((Item*)x.out)[row * x.length + start + i] = items[i];
    }
#endif
}
#elif STEP == MERGE
// An item's place among both runs is that in its own and how many of the other come before it.
__device__ __forceinline__ void merge(const Arguments& x, u64 i) {
    const i64 row = (i64)i / x.length * x.length, at = (i64)i % x.length;
    const i64 start = at / (2 * x.run) * (2 * x.run), middle = min(start + x.run, x.length);
    const bool first = at < middle;
    const i64 begin = first ? middle : start;
    i64 low = begin, high = first ? min(start + 2 * x.run, x.length) : middle;
    const Item own = x.items[i];
    while (low < high) {
        i64 between = (low + high) / 2;
        if (less(x.items[row + between], own)) low = between + 1; else high = between;
    }
    const i64 before = at - (first ? start : middle);
    ((Item*)x.out)[row + start + before + (low - begin)] = own;
}
#endif

extern "C" __global__ void __launch_bounds__(256) sort(const Arguments x) {
#if STEP == TILES || STEP == HEADS
    step(x);
#else
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < x.elements; i += stride) {
#if STEP == MERGE
        merge(x, i);
#else
        ((i64*)x.out)[i] = place_of(x.items[(i64)i / x.kept * x.length + (i64)i % x.kept]);
#endif
    }
#endif
}

// A CUDA block on a CPU: enough of the machine to run edgeir's kernels from their own source, without a GPU.
//
// Every thread of a block is a fiber. Fibers run one at a time, in an order drawn anew in every round, until a barrier or
// an exchange between the lanes of a warp, which ends when all 32 have come; whole warps fall asleep for up to 64 rounds,
// so that others get ahead of them as far as barriers let them. Shared memory starts as
// garbage and ends at a page that nobody may touch. What depends on the order of threads where it must not therefore
// shows as a result that changes with the seed; what a GPU does otherwise (caches, time, asynchronous copies) does not
// show at all.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

using std::max;
using std::min;

namespace emulator {

constexpr int LANES = 32, SLOTS = 16;
constexpr size_t STACK_BYTES = 256 * 1024;

struct Meeting {  // of a warp or of a block
    int expected = 0, arrived = 0;
    unsigned generation = 0;
};

struct Warp {
    Meeting meeting;
    uint32_t brought[LANES][SLOTS];
    uint32_t taken[LANES][SLOTS];
};

struct Fiber {
    ucontext_t context;
    dim3 thread;
    int number = 0;
    bool done = false;
    const Meeting* waits_for = nullptr;
    unsigned generation = 0;
};

inline unsigned& seed() {
    static unsigned value = 1;
    return value;
}

class Block {
  public:
    static Block*& current() {
        static Block* block = nullptr;
        return block;
    }

    Block(dim3 block, size_t shared_bytes) : shape(block) {
        const int threads = static_cast<int>(block.x * block.y * block.z);
        if (threads % LANES) fail("a block must have whole warps here");
        fibers.resize(threads);
        warps.resize(threads / LANES);
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        shared_size = (shared_bytes + 15) / 16 * 16;
        mapped_size = (shared_size + page - 1) / page * page + page;
        mapped = map(mapped_size);
        if (mprotect(mapped + mapped_size - page, page, PROT_NONE)) fail("no guard page");
        shared = mapped + mapped_size - page - shared_size;
        stacks = map(threads * STACK_BYTES);
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() {
        munmap(mapped, mapped_size);
        munmap(stacks, fibers.size() * STACK_BYTES);
    }

    void run(dim3 at, const std::function<void()>& kernel, std::mt19937& random) {
        place = at;
        body = &kernel;
        current() = this;
        for (size_t index = 0; index < shared_size; ++index) shared[index] = static_cast<unsigned char>(random());
        whole = Meeting{};
        whole.expected = static_cast<int>(fibers.size());
        for (Warp& warp : warps) {
            warp.meeting = Meeting{};
            warp.meeting.expected = LANES;
        }
        std::vector<Fiber*> order;
        for (size_t index = 0; index < fibers.size(); ++index) {
            Fiber& fiber = fibers[index];
            const unsigned number = static_cast<unsigned>(index);
            fiber.thread = dim3(number % shape.x, number / shape.x % shape.y, number / shape.x / shape.y);
            fiber.number = static_cast<int>(index);
            fiber.done = false;
            fiber.waits_for = nullptr;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = stacks + index * STACK_BYTES;
            fiber.context.uc_stack.ss_size = STACK_BYTES;
            fiber.context.uc_link = &scheduler;
            makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 0);
            order.push_back(&fiber);
        }
        std::vector<bool> asleep(warps.size(), false);  // some warps get far ahead of others
        unsigned rounds = 0;
        for (size_t left = fibers.size(); left > 0;) {
            std::shuffle(order.begin(), order.end(), random);
            if (rounds-- == 0) {
                for (size_t index = 0; index < warps.size(); ++index) asleep[index] = random() % 2;
                rounds = random() % 64;
            }
            bool moved = false;
            for (Fiber* fiber : order) {
                if (asleep[fiber->number / LANES]) continue;
                if (fiber->done || (fiber->waits_for && fiber->waits_for->generation == fiber->generation)) continue;
                fiber->waits_for = nullptr;
                moved = true;
                running = fiber;
                swapcontext(&scheduler, &fiber->context);
                left -= fiber->done;
            }
            const bool all_awake = std::find(asleep.begin(), asleep.end(), true) == asleep.end();
            if (!moved && !all_awake) {
                std::fill(asleep.begin(), asleep.end(), false);
                continue;
            }
            if (!moved) fail("some threads wait for others that have ended or wait elsewhere");
        }
    }

    // Returns when all of the meeting have come; `last` is run once, by the last one, before anybody goes on.
    void meet(Meeting& meeting, const std::function<void()>& last = [] {}) {
        if (++meeting.arrived == meeting.expected) {
            last();
            meeting.arrived = 0;
            ++meeting.generation;
            return;
        }
        Fiber& fiber = *running;
        fiber.waits_for = &meeting;
        fiber.generation = meeting.generation;
        swapcontext(&fiber.context, &scheduler);
    }

    [[noreturn]] static void fail(const char* what) {
        std::fprintf(stderr, "emulator: %s\n", what);
        std::abort();
    }

    Warp& warp() { return warps[running->number / LANES]; }
    int lane() const { return running->number % LANES; }
    size_t size() const { return shared_size; }

    dim3 shape, place, grid;
    unsigned char* shared = nullptr;
    Fiber* running = nullptr;
    Meeting whole;

  private:
    static unsigned char* map(size_t bytes) {
        void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) fail("out of memory");
        return static_cast<unsigned char*>(found);
    }
    static void enter() {
        Block& block = *current();
        (*block.body)();
        block.running->done = true;
    }

    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    ucontext_t scheduler;
    const std::function<void()>* body = nullptr;
    unsigned char *mapped = nullptr, *stacks = nullptr;
    size_t mapped_size = 0, shared_size = 0;
};

inline Block& block() { return *Block::current(); }

inline void launch(dim3 grid, dim3 shape, size_t shared_bytes, const std::function<void()>& kernel) {
    std::mt19937 random(seed());
    Block block(shape, shared_bytes);
    block.grid = grid;
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) block.run(dim3(x, y, z), kernel, random);
        }
    }
}

// All lanes bring `count` words, `made` computes what each takes away.
inline void exchange(
    const uint32_t* bring, int count, uint32_t* take, int taken, const std::function<void(Warp&)>& made) {
    Block& all = block();
    Warp& warp = all.warp();
    const int lane = all.lane();
    std::memcpy(warp.brought[lane], bring, count * 4);
    all.meet(warp.meeting, [&] { made(warp); });
    std::memcpy(take, warp.taken[lane], taken * 4);
}

inline uint32_t word(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float number(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

}  // namespace emulator

#define threadIdx (emulator::block().running->thread)
#define blockIdx (emulator::block().place)
#define blockDim (emulator::block().shape)
#define gridDim (emulator::block().grid)
#define EDGEIR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (static_cast<void>(stream), emulator::launch(grid, block, shared_bytes, [=] { kernel(__VA_ARGS__); }))

namespace edgeir {

struct float16 {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(float16 value) {
    _Float16 number;
    std::memcpy(&number, &value.bits, 2);
    return static_cast<float>(number);
}
inline float to_float(bfloat16 value) { return emulator::number(static_cast<uint32_t>(value.bits) << 16); }

template <typename T> T from_float(float value);
template <> inline float from_float<float>(float value) { return value; }
template <> inline float16 from_float<float16>(float value) {
    const _Float16 number = static_cast<_Float16>(value);
    float16 made;
    std::memcpy(&made.bits, &number, 2);
    return made;
}
template <> inline bfloat16 from_float<bfloat16>(float value) {  // to the nearest, ties to even
    const uint32_t bits = emulator::word(value);
    if (std::isnan(value)) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline uint32_t bits_of(float value) { return emulator::word(value); }
inline float float_of(uint32_t bits) { return emulator::number(bits); }

template <typename Made> uint32_t of_pairs(uint32_t a, uint32_t b, const Made& made) {  // FP16; a float holds either sum
    uint32_t both = 0;
    for (int which = 0; which < 2; ++which) {
        const auto number = [which](uint32_t bits) { return to_float(float16{static_cast<uint16_t>(bits >> (16 * which))}); };
        both |= static_cast<uint32_t>(from_float<float16>(made(number(a), number(b))).bits) << (16 * which);
    }
    return both;
}
inline uint32_t add_pairs(uint32_t a, uint32_t b) {
    return of_pairs(a, b, [](float one, float other) { return one + other; });
}
inline uint32_t subtract_pairs(uint32_t a, uint32_t b) {
    return of_pairs(a, b, [](float one, float other) { return one - other; });
}
inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
    return of_pairs(a, b, [](float one, float other) { return one * other; });
}

inline uint32_t shuffle_xor(uint32_t value, int mask) {
    uint32_t taken;
    emulator::exchange(&value, 1, &taken, 1, [mask](emulator::Warp& warp) {
        for (int lane = 0; lane < emulator::LANES; ++lane) warp.taken[lane][0] = warp.brought[lane ^ mask][0];
    });
    return taken;
}
inline float shuffle_xor(float value, int mask) { return float_of(shuffle_xor(bits_of(value), mask)); }

inline bool any_lane(bool value) {
    uint32_t brought = value, taken;
    emulator::exchange(&brought, 1, &taken, 1, [](emulator::Warp& warp) {
        uint32_t any = 0;
        for (auto& words : warp.brought) any |= words[0];
        for (auto& words : warp.taken) words[0] = any;
    });
    return taken != 0;
}

inline void block_barrier() { emulator::block().meet(emulator::block().whole); }
inline float exp2_fast(float value) { return std::exp2(value); }
inline float inverse_square_root(float value) { return 1.0f / std::sqrt(value); }
inline float exp_of(float value) { return std::exp(value); }
inline unsigned char* shared_memory() { return emulator::block().shared; }

// Four 8x8 matrices of 16-bit numbers: lane 8 m + r brings the address of row r of matrix m, PTX ISA, ldmatrix.
inline void read_matrices(uint32_t (&to)[4], const void* row, bool transposed) {
    const uint64_t address = reinterpret_cast<uint64_t>(row);
    if (address % 16) emulator::Block::fail("a row of a matrix must start at a multiple of 16 bytes");
    const unsigned char* shared = emulator::block().shared;
    if (row < shared || static_cast<const unsigned char*>(row) + 16 > shared + emulator::block().size()) {
        emulator::Block::fail("a row of a matrix must lie in shared memory");
    }
    uint32_t brought[4];
    std::memcpy(brought, row, 16);  // nobody writes between here and the meeting: a barrier came before
    emulator::exchange(brought, 4, to, 4, [transposed](emulator::Warp& warp) {
        for (int lane = 0; lane < emulator::LANES; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int matrix = 0; matrix < 4; ++matrix) {
                uint16_t two[2];
                for (int which = 0; which < 2; ++which) {
                    const int from = transposed ? 2 * t + which : g, column = transposed ? g : 2 * t + which;
                    std::memcpy(&two[which], reinterpret_cast<const unsigned char*>(warp.brought[8 * matrix + from]) + 2 * column, 2);
                }
                std::memcpy(&warp.taken[lane][matrix], two, 4);
            }
        }
    });
}
inline int held(int number) { return number; }
inline int thread_anew() { return static_cast<int>(threadIdx.x); }
using SharedAddress = const unsigned char*;
inline SharedAddress shared_address(const void* of) { return static_cast<SharedAddress>(of); }
inline void load_matrices(uint32_t (&to)[4], SharedAddress row, int offset) { read_matrices(to, row + offset, false); }
inline void load_matrices_transposed(uint32_t (&to)[4], SharedAddress row, int offset) {
    read_matrices(to, row + offset, true);
}

// The fragments of m16n8k16, PTX ISA: lane 4 g + t holds rows g and g + 8 of a and d, column g of b.
template <typename T> void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t brought[10], taken[4];
    for (int index = 0; index < 4; ++index) brought[index] = a[index];
    for (int index = 0; index < 2; ++index) brought[4 + index] = b[index];
    for (int index = 0; index < 4; ++index) brought[6 + index] = bits_of(d[index]);
    emulator::exchange(brought, 10, taken, 4, [](emulator::Warp& warp) {
        const auto half = [](uint32_t bits, int which) {
            return to_float(T{static_cast<uint16_t>(which ? bits >> 16 : bits & 0xffff)});
        };
        float left[16][16], right[16][8];
        for (int lane = 0; lane < emulator::LANES; ++lane) {
            const int g = lane / 4, t = lane % 4;
            const uint32_t* words = warp.brought[lane];
            for (int which = 0; which < 2; ++which) {
                left[g][2 * t + which] = half(words[0], which);
                left[g + 8][2 * t + which] = half(words[1], which);
                left[g][2 * t + 8 + which] = half(words[2], which);
                left[g + 8][2 * t + 8 + which] = half(words[3], which);
                right[2 * t + which][g] = half(words[4], which);
                right[2 * t + 8 + which][g] = half(words[5], which);
            }
        }
        for (int lane = 0; lane < emulator::LANES; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int index = 0; index < 4; ++index) {
                float sum = float_of(warp.brought[lane][6 + index]);
                for (int k = 0; k < 16; ++k) sum += left[g + 8 * (index / 2)][k] * right[k][2 * t + index % 2];
                warp.taken[lane][index] = bits_of(sum);
            }
        }
    });
    for (int index = 0; index < 4; ++index) d[index] = float_of(taken[index]);
}

}  // namespace edgeir

extern "C" __attribute__((used)) inline void edgeir_emulator_seed(unsigned value) { emulator::seed() = value; }

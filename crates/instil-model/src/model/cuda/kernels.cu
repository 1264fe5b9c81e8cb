// Kernels of the CUDA decoder, compiled at run time (NVRTC) for one model: HEAD_DIM and GROUP (query heads a
// key head) are defined before this text. No headers: halves are converted by their own instructions.
//
// A pass uploads one array of 64-bit words: addresses of blocks, sequence by sequence, then two words a row:
// token in the low and position in the high half; the index of the first address of the row's sequence in the low
// half, and the factor of the row's queries, a float's bits, in the high one.
// A block holds, layer by layer, keys (kv_heads, 32, HEAD_DIM), then values (kv_heads, 32, HEAD_DIM), as f16.

typedef unsigned short half_bits;
typedef unsigned long long word;

#define POSITIONS 32
#define WARPS 4
#define FULL 0xffffffffu
#define LOWEST -3.0e38f

__device__ __forceinline__ float to_float(half_bits h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

// Values beyond the range of f16 are kept at its ends, so that no sum ever meets an infinity.
__device__ __forceinline__ half_bits to_half(float f) {
    half_bits h;
    f = fminf(fmaxf(f, -65504.0f), 65504.0f);
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

__device__ __forceinline__ float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, step));
    return x;
}

// 1 / rms of a row, which the threads of a block compute together.
__device__ __forceinline__ float inverse_rms(const float* row, int width, float epsilon) {
    __shared__ float sums[32];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum = fmaf(row[i], row[i], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    float all = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; warp++) all += sums[warp];
    return rsqrtf(all / width + epsilon);
}

// hidden (rows, width) = table[token] * scale; a block a row.
extern "C" __global__ void embed(const word* rows, const half_bits* table, float* hidden, int width, float scale) {
    const word token = rows[2 * blockIdx.x] & 0xffffffffu;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        hidden[(size_t)blockIdx.x * width + i] = to_float(table[token * width + i]) * scale;
}

// out (blocks, width) = x / rms(x) * weight of row `wanted[block]` of x, or of row `block` without a list.
extern "C" __global__ void rms_norm(
    const float* x, const float* weight, half_bits* out, int width, float epsilon, const unsigned* wanted, int listed
) {
    const size_t row = listed ? wanted[blockIdx.x] : blockIdx.x;
    const float* from = x + row * width;
    half_bits* to = out + (size_t)blockIdx.x * width;
    const float scale = inverse_rms(from, width, epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = to_half(from[i] * scale * weight[i]);
}

// hidden (blocks, width) += branch / rms(branch) * weight * scale.
extern "C" __global__ void add_normed(
    const float* branch, const float* weight, float* hidden, int width, float epsilon, float scale
) {
    const float* from = branch + (size_t)blockIdx.x * width;
    float* to = hidden + (size_t)blockIdx.x * width;
    const float factor = inverse_rms(from, width, epsilon) * scale;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = fmaf(from[i] * factor, weight[i], to[i]);
}

// x = cap * tanh(x / cap).
extern "C" __global__ void soft_cap(float* x, word count, float cap) {
    const word i = (word)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = cap * tanhf(x[i] / cap);
}

// The two values of a head that a lane holds for pair `pair`.
__device__ __forceinline__ int first_of(int pair, int turned) {
    return pair < turned / 2 ? pair : turned + 2 * (pair - turned / 2);
}
__device__ __forceinline__ int second_of(int pair, int turned) {
    return pair < turned / 2 ? pair + turned / 2 : turned + 2 * (pair - turned / 2) + 1;
}

// Biases, norms of heads and rotary embedding of one head of one row, a warp each: grid (rows, heads + 2 kv_heads).
// Queries stay where they are, scaled; keys and values go into the row's block. Of each head the first `turned` values
// turn, in pairs half of them apart; a lane holds two of them, or two neighbours of the rest.
extern "C" __global__ void place(
    const word* rows, const word* tables, float* projected, const float* bias, int biased,
    const float* query_norm, const float* key_norm, int normed, float epsilon,
    const float* cosines, const float* sines, int turned, int heads, int kv_heads, word layer_offset
) {
    const int head = blockIdx.y, lane = threadIdx.x, half = turned / 2;
    const word position = rows[2 * blockIdx.x] >> 32;
    float* x = projected + ((size_t)blockIdx.x * (heads + 2 * kv_heads) + head) * HEAD_DIM;
    const int kind = head < heads ? 0 : head < heads + kv_heads ? 1 : 2;
    float low[(HEAD_DIM + 63) / 64], high[(HEAD_DIM + 63) / 64];
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < (HEAD_DIM + 63) / 64; n++) {
        const int pair = lane + 32 * n, i = first_of(pair, turned), j = second_of(pair, turned);
        low[n] = high[n] = 0.0f;
        if (pair < HEAD_DIM / 2) {
            low[n] = x[i] + (biased ? bias[head * HEAD_DIM + i] : 0.0f);
            high[n] = x[j] + (biased ? bias[head * HEAD_DIM + j] : 0.0f);
            sum = fmaf(low[n], low[n], fmaf(high[n], high[n], sum));
        }
    }
    const float* norm = kind == 0 ? query_norm : key_norm;
    const float inverse = normed && kind < 2 ? rsqrtf(warp_sum(sum) / HEAD_DIM + epsilon) : 1.0f;
    const word* table = tables + (rows[2 * blockIdx.x + 1] & 0xffffffffu);
    const float scale = __uint_as_float((unsigned)(rows[2 * blockIdx.x + 1] >> 32));
    half_bits* block = (half_bits*)table[position / POSITIONS] + layer_offset;
#pragma unroll
    for (int n = 0; n < (HEAD_DIM + 63) / 64; n++) {
        const int pair = lane + 32 * n, i = first_of(pair, turned), j = second_of(pair, turned);
        if (pair >= HEAD_DIM / 2) break;
        float a = low[n], b = high[n];
        if (normed && kind < 2) {
            a *= inverse * norm[i];
            b *= inverse * norm[j];
        }
        if (pair < half && kind < 2) {
            const float c = cosines[position * half + pair], s = sines[position * half + pair];
            const float was = a;
            a = was * c - b * s;
            b = was * s + b * c;
        }
        if (kind == 0) {
            x[i] = a * scale;
            x[j] = b * scale;
        } else {
            const int at = head - heads;
            half_bits* to = block + ((size_t)at * POSITIONS + position % POSITIONS) * HEAD_DIM;
            to[i] = to_half(a);
            to[j] = to_half(b);
        }
    }
}

// Attention of one row's query heads over one key head, a block of WARPS warps: grid (rows, kv_heads). Warps take
// blocks of 32 positions in turn, a lane a position for the scores and two columns of the head for the values; running
// maximum and sum as in Milakov and Gimelshein ("Online normalizer calculation for softmax", 2018). A row sees `window`
// positions, its own the last; with a `cap` scores become cap * tanh(score / cap).
extern "C" __global__ void attend(
    const word* rows, const word* tables, const float* projected, half_bits* out, int heads, int kv_heads, word layer_offset,
    int window, float cap
) {
    const int kv = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int PAIRS = (HEAD_DIM / 2 + 31) / 32;
    const int position = (int)(rows[2 * blockIdx.x] >> 32);
    const int oldest = position >= window ? position - window + 1 : 0;
    const word* table = tables + (rows[2 * blockIdx.x + 1] & 0xffffffffu);
    __shared__ float query[GROUP][HEAD_DIM];
    __shared__ float mixed[WARPS][GROUP][HEAD_DIM];
    __shared__ float greatest[WARPS][GROUP], sums[WARPS][GROUP];
    const float* from = projected + ((size_t)blockIdx.x * (heads + 2 * kv_heads) + kv * GROUP) * HEAD_DIM;
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += blockDim.x) query[i / HEAD_DIM][i % HEAD_DIM] = from[i];
    __syncthreads();

    float most[GROUP], sum[GROUP], acc[GROUP][PAIRS][2];
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        most[g] = LOWEST;
        sum[g] = 0.0f;
#pragma unroll
        for (int n = 0; n < PAIRS; n++) acc[g][n][0] = acc[g][n][1] = 0.0f;
    }
    for (int index = oldest / POSITIONS + warp; index <= position / POSITIONS; index += WARPS) {
        const half_bits* keys = (const half_bits*)table[index] + layer_offset + (size_t)kv * POSITIONS * HEAD_DIM;
        const half_bits* values = keys + (size_t)kv_heads * POSITIONS * HEAD_DIM;
        float score[GROUP];
#pragma unroll
        for (int g = 0; g < GROUP; g++) score[g] = 0.0f;
        const uint4* key = (const uint4*)(keys + lane * HEAD_DIM);
#pragma unroll 4
        for (int c = 0; c < HEAD_DIM / 8; c++) {
            const uint4 eight = key[c];
            const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
            for (int p = 0; p < 4; p++) {
                const float a = to_float((half_bits)(pairs[p] & 0xffff)), b = to_float((half_bits)(pairs[p] >> 16));
#pragma unroll
                for (int g = 0; g < GROUP; g++) {
                    score[g] = fmaf(a, query[g][c * 8 + 2 * p], score[g]);
                    score[g] = fmaf(b, query[g][c * 8 + 2 * p + 1], score[g]);
                }
            }
        }
        const int count = min(POSITIONS, position - index * POSITIONS + 1), first = max(0, oldest - index * POSITIONS);
        const bool seen = lane >= first && lane < count;
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            if (cap > 0.0f) score[g] = cap * tanhf(score[g] / cap);
            const float now = fmaxf(most[g], warp_max(seen ? score[g] : LOWEST));
            const float kept = __expf(most[g] - now);
            score[g] = seen ? __expf(score[g] - now) : 0.0f;
            sum[g] = fmaf(sum[g], kept, warp_sum(score[g]));
            most[g] = now;
#pragma unroll
            for (int n = 0; n < PAIRS; n++) {
                acc[g][n][0] *= kept;
                acc[g][n][1] *= kept;
            }
        }
        for (int t = first; t < count; t++) {
            float weight[GROUP];
#pragma unroll
            for (int g = 0; g < GROUP; g++) weight[g] = __shfl_sync(FULL, score[g], t);
#pragma unroll
            for (int n = 0; n < PAIRS; n++) {
                const int pair = lane + 32 * n;
                if (pair < HEAD_DIM / 2) {
                    const unsigned two = ((const unsigned*)(values + t * HEAD_DIM))[pair];
                    const float a = to_float((half_bits)(two & 0xffff)), b = to_float((half_bits)(two >> 16));
#pragma unroll
                    for (int g = 0; g < GROUP; g++) {
                        acc[g][n][0] = fmaf(weight[g], a, acc[g][n][0]);
                        acc[g][n][1] = fmaf(weight[g], b, acc[g][n][1]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        if (lane == 0) {
            greatest[warp][g] = most[g];
            sums[warp][g] = sum[g];
        }
#pragma unroll
        for (int n = 0; n < PAIRS; n++) {
            const int pair = lane + 32 * n;
            if (pair < HEAD_DIM / 2) {
                mixed[warp][g][2 * pair] = acc[g][n][0];
                mixed[warp][g][2 * pair + 1] = acc[g][n][1];
            }
        }
    }
    __syncthreads();
    half_bits* to = out + ((size_t)blockIdx.x * heads + kv * GROUP) * HEAD_DIM;
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += blockDim.x) {
        const int g = i / HEAD_DIM, d = i % HEAD_DIM;
        float most_of_all = LOWEST;
        for (int w = 0; w < WARPS; w++) most_of_all = fmaxf(most_of_all, greatest[w][g]);
        float all = 0.0f, value = 0.0f;
        for (int w = 0; w < WARPS; w++) {
            const float share = __expf(greatest[w][g] - most_of_all);
            all = fmaf(sums[w][g], share, all);
            value = fmaf(mixed[w][g][d], share, value);
        }
        to[i] = to_half(value / all);
    }
}

// out (rows, width) = f(gate) * up, from both side by side; f is SiLU, or GELU by its tanh form.
extern "C" __global__ void gate_up(const float* both, half_bits* out, int width, int gelu) {
    const float* gate = both + (size_t)blockIdx.x * 2 * width;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width; i += gridDim.y * blockDim.x) {
        const float x = gate[i];
        const float f = gelu ? 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)))
                             : x / (1.0f + __expf(-x));
        out[(size_t)blockIdx.x * width + i] = to_half(f * gate[width + i]);
    }
}

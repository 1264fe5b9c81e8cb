//! Attention of ragged rows over keys and values in blocks of 32 positions.
//!
//! A row meets the blocks of its own sequence in order, and within a block all 32 positions at once
//! (those beyond the row weigh 0), with the running maximum and sum of Milakov and Gimelshein
//! ("Online normalizer calculation for softmax", 2018). So its result is the same whoever shares its
//! blocks. Rows that stand next to each other and share a block read it together. With a sliding window
//! a row meets only the blocks that its window touches, and what lies before the window weighs 0.

use super::lanes::{BLOCK, LANES, Lanes};
use super::pointwise::{capped, exp};
use super::{Isa, on_isa};

/// Positions in a block.
pub(crate) const POSITIONS: usize = BLOCK;

/// How one layer's keys and values lie in a block: first keys `(kv_heads, head_dim, 32)`, then values
/// `(kv_heads, 32, head_dim)`, as f16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head, a multiple of 16.
    pub head_dim: usize,
}

impl Layout {
    /// Halves that one layer takes in a block.
    pub(crate) fn layer_elements(&self) -> usize {
        2 * self.kv_heads * self.head_dim * POSITIONS
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// One row's view of its sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Blocks of the sequence, in order; at least those up to the row's position.
    pub blocks: *const *mut u16,
    /// The row's position: it attends to everything up to and with it.
    pub position: usize,
}

// SAFETY: views are read by all threads of a pass; the blocks behind them are written at different
// positions, and only in another phase than they are read in.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

/// Stores one row's key and value of one layer, `(kv_heads, head_dim)` each, at its position.
/// Values beyond the range of f16 are kept at its ends, so that no sum ever meets an infinity.
///
/// A key head's width is a multiple of 16.
///
/// # Safety
/// The view's block for the position holds `layer_offset + layout.layer_elements()` halves, and no
/// other thread writes this position or reads the block meanwhile.
pub(crate) unsafe fn remember(isa: Isa, layout: Layout, view: View, layer_offset: usize, key: &[f32], value: &[f32]) {
    // SAFETY: as the caller promises.
    unsafe {
        let block = (*view.blocks.add(view.position / POSITIONS)).add(layer_offset);
        let at = view.position % POSITIONS;
        on_isa!(
            isa,
            remember_lanes(
                layout: Layout = layout,
                block: *mut u16 = block,
                at: usize = at,
                key: &[f32] = key,
                value: &[f32] = value,
            )
        );
    }
}

#[inline(always)]
unsafe fn remember_lanes<L: Lanes>(layout: Layout, block: *mut u16, at: usize, key: &[f32], value: &[f32]) {
    unsafe {
        let mut halves = [0u16; LANES];
        for (index, part) in key.chunks_exact(LANES).enumerate() {
            L::store_f16(halves.as_mut_ptr(), bounded::<L>(part));
            let to = block.add(index * LANES * POSITIONS + at);
            for (d, &half) in halves.iter().enumerate() {
                *to.add(d * POSITIONS) = half;
            }
        }
        let values = block.add(key.len() * POSITIONS);
        for (head, value) in value.chunks_exact(layout.head_dim).enumerate() {
            let to = values.add((head * POSITIONS + at) * layout.head_dim);
            for (index, part) in value.chunks_exact(LANES).enumerate() {
                L::store_f16(to.add(index * LANES), bounded::<L>(part));
            }
        }
    }
}

/// Sixteen values within the range of f16.
#[inline(always)]
unsafe fn bounded<L: Lanes>(part: &[f32]) -> L::F {
    unsafe { L::max(L::min(L::load(part.as_ptr()), L::splat(65504.0)), L::splat(-65504.0)) }
}

/// Asks for the memory that [`remember`] will write for a row.
///
/// # Safety
/// The view has a block for its position.
pub(crate) unsafe fn prepare(isa: Isa, layout: Layout, view: View, layer_offset: usize) {
    // SAFETY: as the caller promises; asking for memory needs no validity of the address.
    unsafe {
        let block = *view.blocks.add(view.position / POSITIONS);
        let key = block.wrapping_add(layer_offset + view.position % POSITIONS);
        on_isa!(isa, prepare_lanes(key: *const u16 = key, count: usize = layout.kv_heads * layout.head_dim));
    }
}

#[inline(always)]
unsafe fn prepare_lanes<L: Lanes>(key: *const u16, count: usize) {
    for d in 0..count {
        unsafe { L::prefetch(key.wrapping_add(d * POSITIONS).cast()) };
    }
}

/// Running state of the rows of a task; kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    greatest: Vec<f32>,
    sums: Vec<f32>,
}

/// The queries and results of a pass, `(rows, stride)`; heads stand next to each other from column 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Scaled queries.
    pub queries: *const f32,
    /// Floats from row to row of the queries.
    pub query_stride: usize,
    /// Results.
    pub out: *mut f32,
    /// Floats from row to row of the results.
    pub out_stride: usize,
}

// SAFETY: queries are read by all threads; results are written by the task that owns row and head.
unsafe impl Send for Heads {}
// SAFETY: as above.
unsafe impl Sync for Heads {}

/// Some rows that meet one key head.
#[derive(Clone, Debug)]
pub(crate) struct Task<'a> {
    /// Heads and their width.
    pub layout: Layout,
    /// Where the layer begins in a block.
    pub layer_offset: usize,
    /// All rows of the pass.
    pub views: &'a [View],
    /// Queries and results of all rows.
    pub heads: Heads,
    /// The key head, whose query heads are computed.
    pub kv_head: usize,
    /// The rows.
    pub rows: std::ops::Range<usize>,
    /// Positions that a row sees, its own and those before it; `None` for all, else at least 1.
    pub window: Option<usize>,
    /// Scores become `cap · tanh(score / cap)`.
    pub cap: Option<f32>,
    /// A score of each query head that takes part in the sum and brings no value.
    pub sinks: Option<&'a [f32]>,
}

/// Computes the query heads over a key head of some rows.
///
/// # Safety
/// `views`, `heads` and the blocks cover the rows; nobody writes the blocks meanwhile, and nobody
/// else these results.
pub(crate) unsafe fn attend(isa: Isa, task: &Task, scratch: &mut Scratch) {
    // SAFETY: as the caller promises.
    unsafe { on_isa!(isa, attend_lanes(task: &Task<'_> = task, scratch: &mut Scratch = scratch)) };
}

impl Task<'_> {
    /// Row and head of the `pair`-th query, counted from `first`.
    fn place(&self, first: usize, pair: usize) -> (usize, usize) {
        let group = self.layout.group();
        (first + pair / group, self.kv_head * group + pair % group)
    }

    /// First position that a row sees.
    fn start(&self, row: usize) -> usize {
        self.window.map_or(0, |window| (self.views[row].position + 1).saturating_sub(window))
    }

    /// Whether a row meets the blocks of that index.
    fn meets(&self, row: usize, index: usize) -> bool {
        (self.start(row) / POSITIONS..=self.views[row].position / POSITIONS).contains(&index)
    }

    unsafe fn query(&self, (row, head): (usize, usize)) -> *const f32 {
        unsafe { self.heads.queries.add(row * self.heads.query_stride + head * self.layout.head_dim) }
    }

    unsafe fn out(&self, (row, head): (usize, usize)) -> *mut f32 {
        unsafe { self.heads.out.add(row * self.heads.out_stride + head * self.layout.head_dim) }
    }
}

#[inline(always)]
unsafe fn attend_lanes<L: Lanes>(task: &Task, scratch: &mut Scratch) {
    let Layout { kv_heads, head_dim, .. } = task.layout;
    let group = task.layout.group();
    let count = task.rows.len() * group;
    scratch.greatest.clear();
    scratch.greatest.resize(count, f32::NEG_INFINITY);
    scratch.sums.clear();
    scratch.sums.resize(count, 0.0);
    let first = task.rows.clone().map(|row| task.start(row) / POSITIONS).min().unwrap_or(0);
    let last = task.rows.clone().map(|row| task.views[row].position / POSITIONS).max().unwrap_or(0);
    for index in first..=last {
        let mut row = task.rows.start;
        while row < task.rows.end {
            if !task.meets(row, index) {
                row += 1;
                continue;
            }
            // SAFETY: the view holds a block for every position up to its own.
            let block = unsafe { *task.views[row].blocks.add(index) };
            let shares = |row: usize| {
                // SAFETY: as above.
                task.meets(row, index) && unsafe { *task.views[row].blocks.add(index) } == block
            };
            let mut end = row + 1;
            while end < task.rows.end && shares(end) {
                end += 1;
            }
            unsafe {
                let keys = block.add(task.layer_offset + task.kv_head * head_dim * POSITIONS).cast_const();
                let values = keys.add(kv_heads * head_dim * POSITIONS);
                if end < task.rows.end && task.meets(end, index) {
                    // The next rows' block comes from memory while this one is worked on.
                    let next = (*task.views[end].blocks.add(index)).wrapping_offset(keys.offset_from(block));
                    let further = values.offset_from(keys);
                    for line in (0..head_dim * POSITIONS).step_by(64 / size_of::<u16>()) {
                        L::prefetch(next.wrapping_add(line).cast_const().cast());
                        L::prefetch(next.wrapping_add(line).wrapping_offset(further).cast_const().cast());
                    }
                }
                let state = (row - task.rows.start) * group;
                let pairs = (end - row) * group;
                let mut pair = 0;
                while pair < pairs {
                    let (greatest, sums) =
                        (scratch.greatest.as_mut_ptr().add(state + pair), scratch.sums.as_mut_ptr().add(state + pair));
                    let at = At { index, first: row, pair, keys, values, greatest, sums };
                    let left = pairs - pair;
                    if left >= 4 {
                        meet::<L, 4>(task, at);
                        pair += 4;
                    } else if left == 3 {
                        meet::<L, 3>(task, at);
                        pair += 3;
                    } else if left == 2 {
                        meet::<L, 2>(task, at);
                        pair += 2;
                    } else {
                        meet::<L, 1>(task, at);
                        pair += 1;
                    }
                }
            }
            row = end;
        }
    }
    for pair in 0..count {
        unsafe {
            let place = task.place(task.rows.start, pair);
            let out = task.out(place);
            let mut sum = scratch.sums[pair];
            if let Some(sinks) = task.sinks {
                let mut sink = [0.0; LANES];
                L::store(sink.as_mut_ptr(), exp::<L>(L::splat(sinks[place.1] - scratch.greatest[pair])));
                sum += sink[0];
            }
            let inverse = L::splat(1.0 / sum);
            for d in (0..head_dim).step_by(LANES) {
                L::store(out.add(d), L::mul(L::load(out.add(d)), inverse));
            }
        }
    }
}

/// Some queries and the block that they meet.
#[derive(Clone, Copy)]
struct At {
    index: usize,
    first: usize,
    pair: usize,
    keys: *const u16,
    values: *const u16,
    greatest: *mut f32,
    sums: *mut f32,
}

/// Lets `T` queries meet one block.
#[inline(always)]
unsafe fn meet<L: Lanes, const T: usize>(task: &Task, at: At) {
    unsafe {
        let head_dim = task.layout.head_dim;
        let mut places = [(0, 0); T];
        let mut queries = [std::ptr::null(); T];
        for t in 0..T {
            places[t] = task.place(at.first, at.pair + t);
            queries[t] = task.query(places[t]);
        }
        let mut scores = [[L::splat(0.0); 2]; T];
        for d in 0..head_dim {
            let low = L::load_f16(at.keys.add(d * POSITIONS));
            let high = L::load_f16(at.keys.add(d * POSITIONS + LANES));
            for t in 0..T {
                let query = L::splat(*queries[t].add(d));
                scores[t][0] = L::fma(query, low, scores[t][0]);
                scores[t][1] = L::fma(query, high, scores[t][1]);
            }
        }
        let mut weights = [[0f32; POSITIONS]; T];
        let mut outs = [std::ptr::null_mut(); T];
        for t in 0..T {
            let (position, start) = (task.views[places[t].0].position, task.start(places[t].0));
            let count = position + 1 - at.index * POSITIONS;
            let unseen = start.saturating_sub(at.index * POSITIONS);
            let to = weights[t].as_mut_ptr();
            if let Some(cap) = task.cap {
                scores[t] = [capped::<L>(scores[t][0], cap), capped::<L>(scores[t][1], cap)];
            }
            if count < POSITIONS || unseen > 0 {
                L::store(to, scores[t][0]);
                L::store(to.add(LANES), scores[t][1]);
                weights[t][..unseen].fill(f32::NEG_INFINITY);
                weights[t][count.min(POSITIONS)..].fill(f32::NEG_INFINITY);
                scores[t] = [L::load(to), L::load(to.add(LANES))];
            }
            let before = *at.greatest.add(t);
            let greatest = before.max(L::greatest(L::max(scores[t][0], scores[t][1])));
            let shift = L::splat(greatest);
            let low = exp::<L>(L::sub(scores[t][0], shift));
            let high = exp::<L>(L::sub(scores[t][1], shift));
            L::store(to, low);
            L::store(to.add(LANES), high);
            let sum = L::sum(L::add(low, high));
            let out = task.out(places[t]);
            outs[t] = out;
            if at.index == start / POSITIONS {
                *at.sums.add(t) = sum;
                for d in (0..head_dim).step_by(LANES) {
                    L::store(out.add(d), L::splat(0.0));
                }
            } else {
                let mut factor = [1.0; LANES];
                // Most blocks hold no new maximum, and e^0 = 1.
                if before < greatest {
                    let kept = exp::<L>(L::splat(before - greatest));
                    L::store(factor.as_mut_ptr(), kept);
                    for d in (0..head_dim).step_by(LANES) {
                        L::store(out.add(d), L::mul(L::load(out.add(d)), kept));
                    }
                }
                *at.sums.add(t) = factor[0].mul_add(*at.sums.add(t), sum);
            }
            *at.greatest.add(t) = greatest;
        }
        let mut d = 0;
        while d + 4 * LANES <= head_dim {
            mix::<L, T, 4>(at.values.add(d), head_dim, &weights, &outs, d);
            d += 4 * LANES;
        }
        while d < head_dim {
            mix::<L, T, 1>(at.values.add(d), head_dim, &weights, &outs, d);
            d += LANES;
        }
    }
}

/// Adds the weighted values of a block to `V` vectors of the results.
#[inline(always)]
unsafe fn mix<L: Lanes, const T: usize, const V: usize>(
    values: *const u16,
    head_dim: usize,
    weights: &[[f32; POSITIONS]; T],
    outs: &[*mut f32; T],
    d: usize,
) {
    unsafe {
        let mut sums = [[L::splat(0.0); V]; T];
        for t in 0..T {
            for v in 0..V {
                sums[t][v] = L::load(outs[t].add(d + v * LANES));
            }
        }
        for position in 0..POSITIONS {
            let mut value = [L::splat(0.0); V];
            for v in 0..V {
                value[v] = L::load_f16(values.add(position * head_dim + v * LANES));
            }
            for t in 0..T {
                let weight = L::splat(weights[t][position]);
                for v in 0..V {
                    sums[t][v] = L::fma(weight, value[v], sums[t][v]);
                }
            }
        }
        for t in 0..T {
            for v in 0..V {
                L::store(outs[t].add(d + v * LANES), sums[t][v]);
            }
        }
    }
}

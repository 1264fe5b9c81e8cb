//! The two stages of a layer on the CPU, which change the residual stream in place, and what stands around them.
//!
//! `hidden` is the residual stream, `(rows, hidden)`. A stage runs its phases on one [`Team`], with a barrier after
//! each: norm and rounding by rows, products by pieces of 32 outputs, attention by key head and rows.
//! What recurrent layers do instead of attention is in `stages/recurrent.rs`, what layers of experts do instead of a
//! feed-forward network in `stages/experts.rs`.
//! [`super::reference`] has the same stages in Candle's own operations, for other devices and for
//! comparison.

mod experts;
mod recurrent;

use std::sync::Mutex;

pub(super) use self::experts::Bank;
pub(super) use self::recurrent::{Recurrent, Run};

use super::architecture::{Activation, Architecture, Recurrence};
use super::kernels::Isa;
use super::kernels::activations::{Activations, Rows};
use super::kernels::attention::{Heads, Layout, Scratch, Task, View, attend, prepare, remember};
use super::kernels::pointwise::{gate, rms_norm, rotate, soft_cap};
use super::kernels::recurrence::let_through;
use super::kernels::team::{Member, Team};
use super::layout::{Role, Section};
use super::linear::{Linear, PIECE, To};
use super::profile::{Part, Profile};
use super::rotary::Rotary;
use super::routing;
use super::weights::Weights;
use crate::error::Result;

/// Weights of one layer.
pub(super) struct Layer {
    pub attention_norm: Option<Vec<f32>>,
    pub mixer: Mixer,
    pub attention_post_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Option<Vec<f32>>,
    pub network: Option<Network>,
    pub experts: Option<Bank>,
    pub feed_forward_post_norm: Option<Vec<f32>>,
    /// Factor of the residual stream after the layer.
    pub scale: Option<f32>,
}

/// What a layer learns of other positions by.
pub(super) enum Mixer {
    Attention(Attention),
    Recurrent(Recurrent),
}

/// Weights of attention.
pub(super) struct Attention {
    pub layout: Layout,
    /// Where the layer's part of a block begins.
    pub block_offset: usize,
    pub query_key_value: Linear,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub value_norm: Option<Vec<f32>>,
    pub sinks: Option<Vec<f32>>,
    pub output: Linear,
}

impl Layer {
    fn attention(&self) -> Option<&Attention> {
        if let Mixer::Attention(attention) = &self.mixer { Some(attention) } else { None }
    }

    fn recurrent(&self) -> Option<&Recurrent> {
        if let Mixer::Recurrent(recurrent) = &self.mixer { Some(recurrent) } else { None }
    }
}

/// A network, or several of one width: the rows of each map follow those of the one before.
pub(super) struct Network {
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
    activation: Activation,
}

impl Network {
    /// Reads the networks of some sections.
    pub(super) fn load(weights: &Weights, of: &[Section], activation: Activation) -> Result<Self> {
        let map = |role| Linear::load(weights, &of.iter().map(|at| at.map(role)).collect::<Vec<_>>());
        let gate = activation.is_gated().then(|| map(Role::Gate)).transpose()?;
        Ok(Self { gate, up: map(Role::Up)?, down: map(Role::Down)?, activation })
    }

    /// The maps that take what the network takes.
    fn inner(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up])
    }

    fn maps(&self) -> impl Iterator<Item = &Linear> {
        self.inner().chain([&self.down])
    }
}

impl Layer {
    /// Memory of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let attention = self.attention();
        let maps = attention.into_iter().flat_map(|attention| [&attention.query_key_value, &attention.output]);
        let maps = maps.chain(self.recurrent().into_iter().flat_map(Recurrent::maps));
        let maps = maps.chain(self.network.iter().flat_map(Network::maps));
        let maps = maps.chain(self.experts.iter().flat_map(Bank::maps));
        let of_attention = attention.into_iter().flat_map(|a| [&a.query_norm, &a.key_norm, &a.sinks]);
        let norms =
            [&self.attention_norm, &self.attention_post_norm, &self.feed_forward_norm, &self.feed_forward_post_norm];
        let norms = norms.into_iter().chain(of_attention).flatten().map(|norm| size_of_val(norm.as_slice()));
        let others = self.recurrent().map(Recurrent::other_bytes);
        maps.map(Linear::size_bytes).chain(norms).chain(others).sum()
    }
}

/// Memory and threads of the stages, kept from pass to pass.
pub(super) struct Workspace {
    pub team: Team,
    pub profile: Mutex<Profile>,
    members: Vec<Mutex<Own>>,
    normed: Activations,
    projected: Vec<f32>,
    attended: Vec<f32>,
    attended_rows: Activations,
    /// Of recurrent layers.
    convolved: Vec<f32>,
    controls: Vec<f32>,
    mixed: Activations,
    gated: Activations,
    /// What a stage gives, where it is normed before it is added.
    branch: Vec<f32>,
    routed: experts::Routed,
}

/// One member's own memory.
#[derive(Default)]
struct Own {
    normed: Vec<f32>,
    centred: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    sum: Vec<f32>,
    scratch: Scratch,
    routing: routing::Scratch,
}

impl Workspace {
    pub(super) fn new(a: &Architecture, threads: usize, layers: &[Layer], head: &Linear) -> Self {
        let rows = |inputs: usize, takers: &mut dyn Iterator<Item = &Linear>| {
            let takes = takers.map(Linear::takes).fold((false, false), |a, b| (a.0 | b.0, a.1 | b.1));
            Activations::new(inputs, takes.0, takes.1)
        };
        let networks = || layers.iter().filter_map(|layer| layer.network.as_ref());
        let banks = || layers.iter().filter_map(|layer| layer.experts.as_ref());
        let attentions = || layers.iter().filter_map(Layer::attention);
        let recurrents = || layers.iter().filter_map(Layer::recurrent);
        let inner = attentions().map(|attention| &attention.query_key_value);
        let inner = inner.chain(recurrents().map(|recurrent| &recurrent.input));
        let inner = inner.chain(networks().flat_map(Network::inner));
        let inner = inner.chain(banks().flat_map(Bank::inner));
        Self {
            normed: rows(a.hidden, &mut inner.chain([head])),
            attended_rows: rows(0, &mut attentions().map(|attention| &attention.output)),
            mixed: rows(
                a.recurrence.and_then(Recurrence::heads).map_or(a.hidden, |sizes| sizes.inner()),
                &mut recurrents().map(|recurrent| &recurrent.output),
            ),
            convolved: Vec::new(),
            controls: Vec::new(),
            gated: rows(a.feed_forward, &mut networks().map(|network| &network.down)),
            routed: experts::Routed::new(a, banks, &rows),
            projected: Vec::new(),
            attended: Vec::new(),
            branch: Vec::new(),
            members: (0..threads).map(|_| Mutex::default()).collect(),
            team: Team::new(threads),
            profile: Mutex::default(),
        }
    }
}

/// What all members see in all layers of a pass.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub architecture: &'a Architecture,
    pub isa: Isa,
    pub rotary: &'a Rotary,
    /// One for each row.
    pub views: &'a [View],
    /// One for each sequence, in the order of their rows.
    pub runs: &'a [Run],
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub setting: Setting<'a>,
    pub workspace: &'a mut Workspace,
}

/// Rows that the phases of a pass write in turn.
#[derive(Clone, Copy)]
struct Table<T = f32> {
    at: *mut T,
    width: usize,
}

// SAFETY: each phase gives a row, or columns of rows, to one member; barriers part the phases.
unsafe impl<T> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Table<T> {}

impl<T: Copy + Default> Table<T> {
    /// The first rows of a buffer that grows to hold them.
    fn of(buffer: &mut Vec<T>, rows: usize, width: usize) -> Self {
        buffer.resize(buffer.len().max(rows * width), T::default());
        Self { at: buffer.as_mut_ptr(), width }
    }

    /// So many rows, which are all that there are.
    fn over(values: &mut [T], rows: usize, width: usize) -> Self {
        assert_eq!(values.len(), rows * width, "a value for each row and column");
        Self { at: values.as_mut_ptr(), width }
    }

    /// # Safety
    /// The table has the row, and nobody else uses it in this phase.
    #[expect(clippy::mut_from_ref, reason = "the table stands for memory that the phases share out")]
    unsafe fn row(&self, row: usize) -> &mut [T] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(row * self.width), self.width) }
    }

    /// `count` columns of a row from `column` on.
    ///
    /// # Safety
    /// The table has them, and nobody writes them in this phase.
    unsafe fn part(&self, row: usize, column: usize, count: usize) -> &[T] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts(self.at.add(row * self.width + column), count) }
    }

    /// As [`Table::part`], to be written.
    ///
    /// # Safety
    /// The table has them, and nobody else uses them in this phase.
    #[expect(clippy::mut_from_ref, reason = "as for rows")]
    unsafe fn part_mut(&self, row: usize, column: usize, count: usize) -> &mut [T] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(row * self.width + column), count) }
    }
}

impl Table {
    /// A product's results from column 0 on.
    fn to(self) -> To {
        To { out: self.at, stride: self.width, first: 0, scale: 1.0, accumulate: false }
    }

    /// A product's results, scaled and added to what is there.
    fn plus(self, scale: f32) -> To {
        To { scale, accumulate: true, ..self.to() }
    }
}

impl Architecture {
    pub(super) fn attention_layout(&self, layer: usize) -> Layout {
        let sizes = self.head_sizes(layer);
        Layout { heads: self.heads, kv_heads: sizes.kv_heads, head_dim: sizes.head_dim }
    }
}

impl Setting<'_> {
    fn lap(member: &Member, profile: &Mutex<Profile>, part: Part) {
        if member.index == 0
            && let Ok(mut profile) = profile.lock()
        {
            profile.lap(part);
        }
    }

    /// Writes `count` rows of `from` into `to`, normed where there is a norm, as phase 0.
    fn norm(
        &self,
        member: &Member,
        own: &mut Own,
        count: usize,
        from: &dyn Fn(usize) -> *const f32,
        weight: Option<&[f32]>,
        to: &Rows,
    ) {
        own.normed.resize(to.inputs, 0.0);
        member.share(0, count, |row| {
            // SAFETY: `from` gives rows of the width of `to`, which only this member reads or
            // writes in this phase; `to` has a row for each.
            unsafe {
                let mut row_in = std::slice::from_raw_parts(from(row), to.inputs);
                if self.architecture.centred {
                    let mean = row_in.iter().sum::<f32>() / row_in.len() as f32;
                    own.centred.clear();
                    own.centred.extend(row_in.iter().map(|x| x - mean));
                    row_in = &own.centred;
                }
                match weight {
                    Some(weight) => {
                        rms_norm(self.isa, row_in, weight, self.architecture.norm_epsilon, &mut own.normed);
                        to.write(self.isa, row, 0, &own.normed);
                    }
                    None => to.write(self.isa, row, 0, row_in),
                }
            }
        });
    }

    /// Writes 32 values of what a network's gate lets through, for the first `count` rows of `from`, into `to` from the
    /// column given there on; `piece` counts over the outputs of gate and up.
    ///
    /// # Safety
    /// As for [`Linear::piece`]; this part of `to` is this member's in this phase.
    unsafe fn gate_piece(
        &self,
        own: &mut Own,
        network: &Network,
        (from, count): (&Rows, usize),
        piece: usize,
        (to, column): (&Rows, usize),
    ) {
        let Own { gate: gates, up: ups, .. } = own;
        let first = piece * PIECE;
        let (gate_table, up_table) = (Table::of(gates, count, PIECE), Table::of(ups, count, PIECE));
        // SAFETY: as the caller promises; the tables are this member's own.
        unsafe {
            let into = |table: Table| To { first, ..table.to() };
            match &network.gate {
                Some(map) => {
                    map.piece(self.isa, from, count, piece, into(gate_table));
                    network.up.piece(self.isa, from, count, piece, into(up_table));
                }
                None => network.up.piece(self.isa, from, count, piece, into(gate_table)),
            }
            gate(self.isa, network.activation, &mut gates[..count * PIECE], &ups[..count * PIECE]);
            let width = PIECE.min(to.inputs - column);
            for (row, values) in gates[..count * PIECE].chunks_exact(PIECE).enumerate() {
                to.write(self.isa, row, column, &values[..width]);
            }
        }
    }

    /// Adds a row of a stage's results, normed, to the residual stream.
    fn add_normed(&self, own: &mut Own, from: &[f32], weight: &[f32], to: &mut [f32]) {
        own.normed.resize(weight.len(), 0.0);
        rms_norm(self.isa, from, weight, self.architecture.post_norm_epsilon, &mut own.normed);
        for (to, normed) in to.iter_mut().zip(&own.normed) {
            *to += self.architecture.residual_scale * normed;
        }
    }

    /// Norms the heads of a row's queries or keys, turns them by its position and scales them.
    fn turn(
        &self,
        own: &mut Own,
        (heads, head_dim): (&mut [f32], usize),
        norm: Option<&[f32]>,
        angles: Option<(&[f32], &[f32])>,
        scale: f32,
    ) {
        let a = self.architecture;
        if let Some(norm) = norm {
            if a.norm_after_rotary {
                self.turn(own, (heads, head_dim), None, angles, 1.0);
            }
            own.normed.resize(norm.len(), 0.0);
            for part in heads.chunks_exact_mut(norm.len()) {
                rms_norm(self.isa, part, norm, a.norm_epsilon, &mut own.normed);
                part.copy_from_slice(&own.normed);
            }
        }
        let angles = angles.filter(|_| norm.is_none() || !a.norm_after_rotary);
        for head in heads.chunks_exact_mut(head_dim) {
            let still = match angles {
                Some((cosines, sines)) => {
                    let (turned, still) = head.split_at_mut(2 * cosines.len());
                    rotate(self.isa, turned, cosines, sines, scale);
                    still
                }
                None => head,
            };
            still.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

impl Pass<'_> {
    /// `hidden += W_o · attention(norm(hidden))` of layer `index`, with a norm around the sum's right side where there
    /// is one.
    pub(super) fn attention(&mut self, layer: &Layer, attention: &Attention, index: usize, hidden: &mut [f32]) {
        let setting = self.setting;
        let a = setting.architecture;
        let Workspace { team, profile, members, normed, projected, attended, attended_rows, branch, .. } =
            &mut *self.workspace;
        let rows = setting.views.len();
        let hidden = Table::over(hidden, rows, a.hidden);
        let layout = attention.layout;
        let (head_dim, kv_heads) = (layout.head_dim, layout.kv_heads);
        let (query_width, kv_width) = (layout.heads * head_dim, kv_heads * head_dim);
        let gate_width = if a.attention_gate.is_some() { query_width } else { 0 };
        let projected = Table::of(projected, rows, query_width + gate_width + 2 * kv_width);
        let attended = Table::of(attended, rows, query_width);
        let post_norm = layer.attention_post_norm.as_deref();
        let (sum, branch) = into(hidden, post_norm, branch, rows, a.residual_scale);
        let (normed, attended_rows) = (normed.rows(rows), attended_rows.rows_of(query_width, rows));
        let offset = attention.block_offset;
        let (is_rotary, is_local, window) = (a.is_rotary(index), a.is_local(index), a.window(index));
        // Enough pieces for every member, and rows enough in each to share the blocks of a prefix.
        let chunk = rows.div_ceil(2 * team.size()).clamp(1, 32);
        let chunks = rows.div_ceil(chunk);
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            // SAFETY (here and below): phases touch disjoint rows, pieces or heads, as `Table` says,
            // and every buffer was made for `rows` rows.
            let from = |row: usize| unsafe { hidden.row(row) }.as_ptr();
            setting.norm(member, &mut own, rows, &from, layer.attention_norm.as_deref(), &normed);
            Setting::lap(member, profile, Part::Norm);
            member.share(1, attention.query_key_value.pieces(), |piece| unsafe {
                attention.query_key_value.piece(setting.isa, &normed, rows, piece, projected.to());
            });
            Setting::lap(member, profile, Part::QueryKeyValue);
            member.share(2, rows, |row| {
                let view = setting.views[row];
                if let Some(&next) = setting.views.get(row + 1) {
                    unsafe { prepare(setting.isa, layout, next, offset) };
                }
                let angles = is_rotary.then(|| setting.rotary.at(is_local, view.position));
                let (query, rest) = unsafe { projected.row(row) }.split_at_mut(query_width);
                let (key, value) = rest[gate_width..].split_at_mut(kv_width);
                let scale = a.query_scale(view.position);
                setting.turn(&mut own, (query, head_dim), attention.query_norm.as_deref(), angles, scale);
                setting.turn(&mut own, (key, head_dim), attention.key_norm.as_deref(), angles, 1.0);
                if let Some(norm) = attention.value_norm.as_deref() {
                    setting.turn(&mut own, (value, head_dim), Some(norm), None, 1.0);
                }
                unsafe { remember(setting.isa, layout, view, offset, key, value) };
            });
            Setting::lap(member, profile, Part::Rotate);
            let heads = Heads {
                queries: projected.at,
                query_stride: projected.width,
                out: attended.at,
                out_stride: query_width,
            };
            member.share(3, kv_heads * chunks, |piece| {
                let first = piece / kv_heads * chunk;
                let task = Task {
                    layout,
                    layer_offset: offset,
                    views: setting.views,
                    heads,
                    kv_head: piece % kv_heads,
                    rows: first..(first + chunk).min(rows),
                    window,
                    cap: a.score_cap,
                    sinks: attention.sinks.as_deref(),
                };
                unsafe { attend(setting.isa, &task, &mut own.scratch) };
            });
            Setting::lap(member, profile, Part::Attend);
            member.share(4, rows, |row| {
                let attended = unsafe { attended.row(row) };
                if gate_width > 0 {
                    let gates = &unsafe { projected.row(row) }[query_width..2 * query_width];
                    let_through(setting.isa, attended, gates, false);
                }
                unsafe { attended_rows.write(setting.isa, row, 0, attended) };
            });
            Setting::lap(member, profile, Part::Norm);
            member.share(5, attention.output.pieces(), |piece| unsafe {
                attention.output.piece(setting.isa, &attended_rows, rows, piece, sum);
            });
            Setting::lap(member, profile, Part::AttentionOutput);
            if let Some(norm) = post_norm {
                member.share(6, rows, |row| unsafe {
                    setting.add_normed(&mut own, branch.row(row), norm, hidden.row(row));
                });
                Setting::lap(member, profile, Part::Norm);
            }
        });
    }

    /// `hidden += W_down · (f(W_gate · norm(hidden)) ∘ W_up · norm(hidden))`, with a norm around the sum's right side
    /// where there is one.
    pub(super) fn feed_forward(&mut self, layer: &Layer, hidden: &mut [f32]) {
        let Some(network) = &layer.network else { return };
        let setting = self.setting;
        let a = setting.architecture;
        let Workspace { team, profile, members, normed, gated, branch, .. } = &mut *self.workspace;
        let rows = setting.views.len();
        let hidden = Table::over(hidden, rows, a.hidden);
        let post_norm = layer.feed_forward_post_norm.as_deref();
        let (sum, branch) = into(hidden, post_norm, branch, rows, a.residual_scale);
        let (normed, gated) = (normed.rows(rows), gated.rows(rows));
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            // SAFETY (here and below): as for attention.
            let from = |row: usize| unsafe { hidden.row(row) }.as_ptr();
            // A parallel network takes what attention took.
            if !a.is_parallel() {
                setting.norm(member, &mut own, rows, &from, layer.feed_forward_norm.as_deref(), &normed);
                Setting::lap(member, profile, Part::Norm);
            }
            member.share(1, network.up.pieces(), |piece| unsafe {
                setting.gate_piece(&mut own, network, (&normed, rows), piece, (&gated, piece * PIECE));
            });
            Setting::lap(member, profile, Part::GateUp);
            member.share(2, network.down.pieces(), |piece| unsafe {
                network.down.piece(setting.isa, &gated, rows, piece, sum);
            });
            Setting::lap(member, profile, Part::Down);
            if let Some(norm) = post_norm {
                member.share(3, rows, |row| unsafe {
                    setting.add_normed(&mut own, branch.row(row), norm, hidden.row(row));
                });
                Setting::lap(member, profile, Part::Norm);
            }
        });
    }

    /// Logits `(wanted, vocabulary)` after the rows `wanted` of `hidden`.
    pub(super) fn logits(&mut self, hidden: &[f32], wanted: &[usize], norm: &[f32], head: &Linear) -> Vec<f32> {
        let Workspace { team, profile, members, normed, .. } = &mut *self.workspace;
        let setting = self.setting;
        let normed = normed.rows(wanted.len());
        let count = wanted.len() * head.outputs();
        let mut logits = Vec::with_capacity(count);
        let table = Table { at: logits.as_mut_ptr(), width: head.outputs() };
        let to = To { scale: setting.architecture.logit_scale, ..table.to() };
        // Pieces of several times 32 outputs: a vocabulary has thousands of them.
        let (pieces, step) = (head.pieces(), 4);
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            let from = |row: usize| hidden[wanted[row] * norm.len()..][..norm.len()].as_ptr();
            setting.norm(member, &mut own, wanted.len(), &from, Some(norm), &normed);
            member.share(1, pieces.div_ceil(step), |some| {
                for piece in some * step..(some * step + step).min(pieces) {
                    // SAFETY: the pieces are disjoint, and the vector has room for all rows.
                    unsafe { head.piece(setting.isa, &normed, wanted.len(), piece, to) };
                }
            });
            if let Some(cap) = setting.architecture.logit_cap {
                // SAFETY: each row is one member's, and its pieces were written in the phase before.
                member.share(2, wanted.len(), |row| soft_cap(setting.isa, unsafe { table.row(row) }, cap));
            }
            Setting::lap(member, profile, Part::Head);
        });
        // SAFETY: the pieces cover every output of every row.
        unsafe { logits.set_len(count) };
        logits
    }

    /// The residual stream at its start: the embeddings of `tokens`.
    pub(super) fn embed(&mut self, tokens: &[u32], table: &Linear) -> Vec<f32> {
        let Workspace { team, profile, .. } = &mut *self.workspace;
        let a = self.setting.architecture;
        let mut hidden = Vec::new();
        let rows = Table::of(&mut hidden, tokens.len(), a.hidden);
        let bare = a.norms_embeddings.then(|| vec![1.0; a.hidden]);
        team.run(&|member| {
            // SAFETY: each row is one member's.
            member.share(0, tokens.len(), |row| {
                let into = unsafe { rows.row(row) };
                table.row(tokens[row] as usize, into);
                into.iter_mut().for_each(|x| *x *= a.embedding_scale);
                if let Some(weight) = &bare {
                    let row = into.to_vec();
                    rms_norm(self.setting.isa, &row, weight, a.norm_epsilon, into);
                }
            });
            Setting::lap(member, profile, Part::Embed);
        });
        hidden
    }
}

/// Where a stage's results go: they are added to the residual stream, or kept apart to be normed first.
fn into(hidden: Table, post_norm: Option<&[f32]>, branch: &mut Vec<f32>, rows: usize, scale: f32) -> (To, Table) {
    match post_norm {
        None => (hidden.plus(scale), hidden),
        Some(_) => {
            let branch = Table::of(branch, rows, hidden.width);
            (branch.to(), branch)
        }
    }
}

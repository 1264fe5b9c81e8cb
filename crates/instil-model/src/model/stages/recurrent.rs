//! Recurrent layers on the CPU: a short convolution, a delta network or a scan in place of attention.
//!
//! What a row brings is computed by rows; the states are then taken on position by position, each head by one member.

use super::super::architecture::{Architecture, HeadStates, MOST_TAPS, Recurrence, softplus};
use super::super::kernels::Isa;
use super::super::kernels::lanes::LANES;
use super::super::kernels::pointwise::rms_norm;
use super::super::kernels::recurrence::{Step, convolve, let_through, make_unit, take_on};
use super::super::layout::{Map, Role, Section, Slice};
use super::super::linear::Linear;
use super::super::profile::Part;
use super::super::routing::sigmoid;
use super::super::weights::{Weights, device_error};
use super::{Layer, Pass, Setting, Table, Workspace, into};
use crate::error::Result;

/// Weights of a recurrent layer.
pub(crate) struct Recurrent {
    /// Where heads keep states, what the convolution goes over, gates, corrections if there are some, and decays; of a
    /// short convolution b, c and x.
    pub input: Linear,
    /// `(taps + 1, channels)`, the last a bias.
    taps: Vec<f32>,
    net: Option<Net>,
    pub output: Linear,
    /// Where the layer's part of a state begins.
    offset: usize,
}

/// What there is besides where heads keep states.
struct Net {
    kind: Recurrence,
    sizes: HeadStates,
    decay_bias: Vec<f32>,
    decay_rate: Vec<f32>,
    /// Of one span, or of all.
    norm: Vec<f32>,
    /// Share of a head's value in what it says.
    input_share: Option<Vec<f32>>,
}

/// A sequence's rows in a pass, one after the other, and the state that they take on.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The sequence's own; null where there are no recurrent layers.
    pub state: *mut f32,
    pub first_row: usize,
    pub count: usize,
}

// SAFETY: the phases of a pass share a state out by heads, as they do rows.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

impl Recurrent {
    /// Whether the kernels compute the recurrent layers of an architecture.
    pub(crate) fn supports(a: &Architecture) -> bool {
        let (_, channels) = a.convolution();
        let sizes = a.recurrence.and_then(Recurrence::heads);
        channels.is_multiple_of(LANES)
            && sizes
                .is_none_or(|sizes| sizes.key_width.is_multiple_of(LANES) && sizes.value_width.is_multiple_of(LANES))
    }

    /// Reads a layer, whose part of a state begins at `offset`.
    pub(crate) fn load(weights: &Weights, at: Section, a: &Architecture, offset: usize) -> Result<Self> {
        let flat = |slice: &Slice| -> Result<Vec<f32>> {
            weights.tensor(slice)?.flatten_all().and_then(|values| values.to_vec1()).map_err(device_error)
        };
        let floats = |role| flat(&at.vector(role).expect("a place in the table for it"));
        let sizes = a.recurrence.and_then(|kind| Some((kind, kind.heads()?)));
        let net = sizes.map(|(kind, sizes)| -> Result<Net> {
            Ok(Net {
                kind,
                sizes,
                decay_bias: floats(Role::DecayBias)?,
                decay_rate: floats(Role::DecayRate)?,
                norm: floats(Role::MixedNorm)?,
                input_share: at.vector(Role::InputShare).map(|slice| flat(&slice)).transpose()?,
            })
        });
        let maps: Vec<Map> = [Role::Mixed, Role::MixedGate, Role::Correction, Role::Decay]
            .iter()
            .filter_map(|&role| at.optional_map(role))
            .collect();
        let Map { weight, bias } = at.map(Role::Taps);
        let taps = weights.tensor(&weight)?;
        let mut taps: Vec<f32> = taps.t().and_then(|taps| taps.flatten_all()?.to_vec1()).map_err(device_error)?;
        match bias {
            Some(bias) => taps.extend(weights.vector(&bias)?),
            None => taps.resize(taps.len() + a.convolution().1, 0.0),
        }
        Ok(Self {
            input: Linear::load(weights, &maps)?,
            taps,
            net: net.transpose()?,
            output: Linear::load(weights, &[at.map(Role::MixedOutput)])?,
            offset,
        })
    }

    pub(crate) fn maps(&self) -> impl Iterator<Item = &Linear> {
        [&self.input, &self.output].into_iter()
    }

    /// Memory of what are no maps.
    pub(crate) fn other_bytes(&self) -> usize {
        let net = self
            .net
            .iter()
            .flat_map(|net| [&net.decay_bias, &net.decay_rate, &net.norm].into_iter().chain(&net.input_share));
        net.chain([&self.taps]).map(|values| size_of_val(values.as_slice())).sum()
    }
}

impl Pass<'_> {
    /// As [`Pass::attention`], for a layer that is recurrent.
    pub(crate) fn recur(&mut self, layer: &Layer, recurrent: &Recurrent, hidden: &mut [f32]) {
        let setting = self.setting;
        let a = setting.architecture;
        let Workspace {
            team, profile, members, normed, projected, attended, convolved, mixed, controls, branch, ..
        } = &mut *self.workspace;
        let rows = setting.views.len();
        let hidden = Table::over(hidden, rows, a.hidden);
        let (taps, channels) = a.convolution();
        let net = recurrent.net.as_ref();
        let (inner, heads) = net.map_or((a.hidden, 0), |net| (net.sizes.inner(), net.sizes.heads));
        let projected = Table::of(projected, rows, recurrent.input.outputs());
        let convolved = Table::of(convolved, rows, channels);
        let said = Table::of(attended, rows, inner);
        let controls = Table::of(controls, rows, 2 * heads);
        let post_norm = layer.attention_post_norm.as_deref();
        let (sum, branch) = into(hidden, post_norm, branch, rows, a.residual_scale);
        let (normed, mixed) = (normed.rows(rows), mixed.rows(rows));
        let offset = recurrent.offset;
        // What the convolution takes `back` positions before a run's row: of the pass, or of the state.
        let input = |run: &Run, row: usize, back: usize| -> *const f32 {
            // SAFETY: the row is one of the run's, or the state has one for each tap but the last.
            unsafe {
                match row.checked_sub(back) {
                    Some(row) => projected.part(run.first_row + row, 0, channels).as_ptr(),
                    None => run.state.add(offset + (taps - 1 + row - back) * channels),
                }
            }
        };
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            // SAFETY (here and below): phases touch disjoint rows, pieces or heads, as `Table` says, every buffer was
            // made for `rows` rows, and every state belongs to one run.
            let from = |row: usize| unsafe { hidden.row(row) }.as_ptr();
            setting.norm(member, &mut own, rows, &from, layer.attention_norm.as_deref(), &normed);
            Setting::lap(member, profile, Part::Norm);
            member.share(1, recurrent.input.pieces(), |piece| unsafe {
                recurrent.input.piece(setting.isa, &normed, rows, piece, projected.to());
            });
            Setting::lap(member, profile, Part::QueryKeyValue);
            if net.is_none() {
                member.share(2, rows, |row| {
                    let (b, rest) = unsafe { projected.row(row) }.split_at_mut(channels);
                    b.iter_mut().zip(&rest[channels..]).for_each(|(b, x)| *b *= x);
                });
            }
            member.share(3, rows, |row| {
                let run = &setting.runs[setting.runs.partition_point(|run| run.first_row + run.count <= row)];
                let mut inputs = [std::ptr::null(); MOST_TAPS];
                for (input_at, back) in inputs.iter_mut().zip((0..taps).rev()) {
                    *input_at = input(run, row - run.first_row, back);
                }
                let out = unsafe { convolved.row(row) };
                unsafe { convolve(setting.isa, &inputs[..taps], &recurrent.taps, net.is_some(), out) };
                // The convolution's part of the row is being read by others.
                if let Some(net) = net {
                    let controls_at = channels + inner;
                    let said = unsafe { projected.part(row, controls_at, projected.width - controls_at) };
                    net.prepare(setting, out, said, unsafe { controls.row(row) });
                } else {
                    let c = unsafe { projected.part(row, channels, channels) };
                    out.iter_mut().zip(c).for_each(|(x, c)| *x *= c);
                    unsafe { mixed.write(setting.isa, row, 0, out) };
                }
            });
            Setting::lap(member, profile, Part::Rotate);
            // Of each run its heads, and what the convolution of its next row will look back to.
            member.share(4, setting.runs.len() * (heads + 1), |piece| {
                let (run, head) = (&setting.runs[piece / (heads + 1)], piece % (heads + 1));
                if let Some(net) = net.filter(|_| head < heads) {
                    let at = offset + (taps - 1) * channels;
                    unsafe { net.take_on(setting.isa, run, head, at, (convolved, controls, said)) };
                    return;
                }
                // Oldest first: a place is written after it was read.
                for (place, back) in (0..taps - 1).rev().enumerate() {
                    let to = unsafe { run.state.add(offset + place * channels) };
                    unsafe { to.copy_from(input(run, run.count - 1, back), channels) };
                }
            });
            Setting::lap(member, profile, Part::Attend);
            if let Some(net) = net {
                member.share(5, rows, |row| {
                    let said = unsafe { said.row(row) };
                    let gates = unsafe { projected.part(row, channels, inner) };
                    // A delta network gates what is normed, a scan norms what is gated.
                    let gates_first = net.input_share.is_some();
                    if gates_first {
                        let_through(setting.isa, said, gates, true);
                    }
                    let span = net.kind.norm_span();
                    own.normed.resize(span, 0.0);
                    for (part, weight) in said.chunks_exact_mut(span).zip(net.norm.chunks_exact(span).cycle()) {
                        rms_norm(setting.isa, part, weight, a.norm_epsilon, &mut own.normed);
                        part.copy_from_slice(&own.normed);
                    }
                    if !gates_first {
                        let_through(setting.isa, said, gates, true);
                    }
                    unsafe { mixed.write(setting.isa, row, 0, said) };
                });
                Setting::lap(member, profile, Part::Norm);
            }
            member.share(6, recurrent.output.pieces(), |piece| unsafe {
                recurrent.output.piece(setting.isa, &mixed, rows, piece, sum);
            });
            Setting::lap(member, profile, Part::AttentionOutput);
            if let Some(norm) = post_norm {
                member.share(7, rows, |row| unsafe {
                    setting.add_normed(&mut own, branch.row(row), norm, hidden.row(row));
                });
            }
        });
    }
}

impl Net {
    /// Makes the queries and keys of a delta network units, and of what a row says of its heads rates and decays.
    fn prepare(&self, setting: Setting, convolved: &mut [f32], said: &[f32], to: &mut [f32]) {
        let (HeadStates { heads, key_heads, key_width, .. }, epsilon) = (self.sizes, setting.architecture.norm_epsilon);
        let (rates, kept) = to.split_at_mut(heads);
        let softened = |head: usize, x: f32| softplus(x + self.decay_bias[head]);
        if self.input_share.is_some() {
            for head in 0..heads {
                rates[head] = softened(head, said[head]);
                kept[head] = (self.decay_rate[head] * rates[head]).exp();
            }
            return;
        }
        let (queries, rest) = convolved.split_at_mut(key_heads * key_width);
        let scale = 1.0 / (key_width as f32).sqrt();
        queries.chunks_exact_mut(key_width).for_each(|head| make_unit(setting.isa, head, scale, epsilon));
        let keys = rest[..key_heads * key_width].chunks_exact_mut(key_width);
        keys.for_each(|head| make_unit(setting.isa, head, 1.0, epsilon));
        let (corrections, decays) = said.split_at(heads);
        for head in 0..heads {
            rates[head] = sigmoid(corrections[head]);
            kept[head] = (self.decay_rate[head] * softened(head, decays[head])).exp();
        }
    }

    /// Takes one head's state, of those that begin at `at`, on over all rows of a run.
    ///
    /// # Safety
    /// The head's part of the state, and its columns of `said`, are this member's in this phase; nobody writes the others.
    unsafe fn take_on(
        &self,
        isa: Isa,
        run: &Run,
        head: usize,
        at: usize,
        (convolved, controls, said): (Table, Table, Table),
    ) {
        let HeadStates { heads, key_width, value_width, .. } = self.sizes;
        let size = self.sizes.elements();
        let [query, key, value] = self.kind.columns(head);
        // SAFETY (all of these): as the caller promises.
        let state = unsafe { std::slice::from_raw_parts_mut(run.state.add(at + head * size), size) };
        for row in run.first_row..run.first_row + run.count {
            let part = |at: usize, width: usize| unsafe { convolved.part(row, at, width) };
            let control = |at: usize| unsafe { controls.part(row, at, 1) }[0];
            let step = Step {
                query: part(query, key_width),
                key: part(key, key_width),
                value: part(value, value_width),
                rate: control(head),
                decay: control(heads + head),
                corrects: self.input_share.is_none(),
            };
            let out = unsafe { said.part_mut(row, head * value_width, value_width) };
            take_on(isa, state, step, out);
            if let Some(shares) = &self.input_share {
                out.iter_mut().zip(step.value).for_each(|(out, value)| *out += shares[head] * value);
            }
        }
    }
}

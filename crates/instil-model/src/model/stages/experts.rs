//! The stage of a layer with experts: each row goes through a few networks, chosen for it.
//!
//! Rows are sorted by expert, so that an expert's weights are read once for all of its rows and those of experts that
//! nobody chose not at all. What is computed for a row is the same however many share its experts, and is added up
//! in the order of its own choice: so a row does not depend on its neighbours.

use super::{Layer, Network, Pass, Setting, Table};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::kernels::activations::Activations;
use crate::model::layout::{Layout, Role};
use crate::model::linear::{Linear, PIECE, To};
use crate::model::profile::Part;
use crate::model::routing::{Choice, choose, sigmoid};
use crate::model::weights::Weights;

/// Weights of a layer's experts.
pub(in crate::model) struct Bank {
    /// A product for each expert, and one more where the shared expert's part is weighed.
    router: Linear,
    choice_bias: Option<Vec<f32>>,
    experts: Network,
    shared: Option<Network>,
    weighs_shared: bool,
}

impl Bank {
    pub(in crate::model) fn load(weights: &Weights, layout: Layout, layer: usize) -> Result<Self> {
        let (at, activation) = (layout.layer(layer), layout.architecture.activation(layer));
        let router: Vec<_> =
            [Role::Router, Role::SharedSwitch].iter().filter_map(|&role| at.optional_map(role)).collect();
        Ok(Self {
            router: Linear::load(weights, &router)?,
            choice_bias: at.vector(Role::ChoiceBias).map(|slice| weights.vector(&slice)).transpose()?,
            experts: Network::load(weights, &layout.experts(layer).collect::<Vec<_>>(), activation)?,
            shared: layout.shared(layer).map(|at| Network::load(weights, &[at], activation)).transpose()?,
            weighs_shared: router.len() > 1,
        })
    }

    pub(super) fn maps(&self) -> impl Iterator<Item = &Linear> {
        [&self.router].into_iter().chain(self.experts.maps()).chain(self.shared.iter().flat_map(Network::maps))
    }

    /// The maps that take what the stage takes.
    pub(super) fn inner(&self) -> impl Iterator<Item = &Linear> {
        [&self.router].into_iter().chain(self.experts.inner()).chain(self.shared.iter().flat_map(Network::inner))
    }
}

/// Memory of the stage, kept from pass to pass. A place is a row's in the order of experts.
pub(super) struct Routed {
    products: Vec<f32>,
    chosen: Vec<Choice>,
    /// The place of each choice.
    places: Vec<usize>,
    /// The row of each place.
    rows: Vec<usize>,
    runs: Vec<Run>,
    /// For each place, what its row gives to the expert, and what the gate lets through.
    normed: Activations,
    gated: Activations,
    shared_gated: Activations,
    /// For each place, what the expert gives.
    outputs: Vec<f32>,
    shared_outputs: Vec<f32>,
}

/// The rows of one expert.
#[derive(Clone, Copy)]
struct Run {
    expert: usize,
    first: usize,
    count: usize,
}

impl Routed {
    pub(super) fn new<'a, B: Iterator<Item = &'a Bank>>(
        a: &Architecture,
        banks: impl Fn() -> B,
        rows: &dyn Fn(usize, &mut dyn Iterator<Item = &'a Linear>) -> Activations,
    ) -> Self {
        let (width, shared_width) = a.experts.map_or((0, 0), |experts| (experts.width, experts.shared_width));
        Self {
            products: Vec::new(),
            chosen: Vec::new(),
            places: Vec::new(),
            rows: Vec::new(),
            runs: Vec::new(),
            normed: rows(a.hidden, &mut banks().flat_map(|bank| bank.experts.inner())),
            gated: rows(width, &mut banks().map(|bank| &bank.experts.down)),
            shared_gated: rows(shared_width, &mut banks().filter_map(|bank| bank.shared.as_ref()).map(|one| &one.down)),
            outputs: Vec::new(),
            shared_outputs: Vec::new(),
        }
    }

    /// Sorts the choices of `count` rows by expert.
    fn sort(&mut self, count: usize, experts: usize, used: usize) {
        let chosen = &self.chosen[..count * used];
        let mut next = vec![0; experts];
        chosen.iter().for_each(|choice| next[choice.expert] += 1);
        self.runs.clear();
        let mut first = 0;
        for (expert, next) in next.iter_mut().enumerate() {
            let count = std::mem::replace(next, first);
            if count > 0 {
                self.runs.push(Run { expert, first, count });
            }
            first += count;
        }
        self.places.clear();
        self.rows.clear();
        self.rows.resize(chosen.len(), 0);
        for (at, choice) in chosen.iter().enumerate() {
            let place = next[choice.expert];
            next[choice.expert] += 1;
            self.places.push(place);
            self.rows[place] = at / used;
        }
    }
}

impl Pass<'_> {
    /// `hidden += Σ weight · expert(norm(hidden))` over the experts chosen for each row and the shared one, with a norm
    /// around the sum's right side where there is one.
    pub(in crate::model) fn experts(&mut self, layer: &Layer, bank: &Bank, hidden: &mut [f32]) {
        let setting = self.setting;
        let a = setting.architecture;
        let Some(experts) = &a.experts else { return };
        let rows = setting.views.len();
        let hidden = Table::over(hidden, rows, a.hidden);
        self.route(layer, bank, hidden);
        let workspace = &mut *self.workspace;
        let routed = &mut workspace.routed;
        routed.sort(rows, experts.count, experts.used);
        let (team, profile, members) = (&mut workspace.team, &workspace.profile, &workspace.members);
        let all = rows * experts.used;
        let from = workspace.normed.rows(rows);
        let Routed { normed, gated, shared_gated, outputs, shared_outputs, .. } = &mut *routed;
        let (normed, gated, shared_gated) = (normed.rows(all), gated.rows(all), shared_gated.rows(rows));
        let outputs = Table::of(outputs, all, a.hidden);
        let shared_outputs = Table::of(shared_outputs, if bank.shared.is_some() { rows } else { 0 }, a.hidden);
        let Routed { products, chosen, places, rows: rows_of, runs, .. } = &*routed;
        let post_norm = layer.feed_forward_post_norm.as_deref();
        let switch = bank.router.outputs();
        // Pieces of an expert's outputs.
        let (inner, outer) = (experts.width / PIECE, a.hidden / PIECE);
        let shared = bank.shared.as_ref();
        let shared_pieces = |of: fn(&Network) -> &Linear| shared.map_or(0, |shared| of(shared).pieces());
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            // SAFETY (here and below): phases touch disjoint rows and pieces, and every buffer was made for the rows
            // or places that it is used for.
            member.share(0, all, |place| unsafe { normed.copy(place, &from, rows_of[place]) });
            Setting::lap(member, profile, Part::Route);
            let own_pieces = runs.len() * inner;
            member.share(1, own_pieces + shared_pieces(|shared| &shared.up), |piece| unsafe {
                if piece < own_pieces {
                    let (run, part) = (runs[piece / inner], piece % inner);
                    let rows = (&normed.skip(run.first), run.count);
                    let to = (&gated.skip(run.first), part * PIECE);
                    setting.gate_piece(&mut own, &bank.experts, rows, run.expert * inner + part, to);
                } else if let Some(shared) = shared {
                    let part = piece - own_pieces;
                    setting.gate_piece(&mut own, shared, (&from, rows), part, (&shared_gated, part * PIECE));
                }
            });
            Setting::lap(member, profile, Part::GateUp);
            let own_pieces = runs.len() * outer;
            member.share(2, own_pieces + shared_pieces(|shared| &shared.down), |piece| unsafe {
                if piece < own_pieces {
                    let (run, part) = (runs[piece / outer], piece % outer);
                    let out = outputs.at.add(run.first * a.hidden);
                    let to = To { out, first: run.expert * a.hidden, ..outputs.to() };
                    let rows = gated.skip(run.first);
                    bank.experts.down.piece(setting.isa, &rows, run.count, run.expert * outer + part, to);
                } else if let Some(shared) = shared {
                    shared.down.piece(setting.isa, &shared_gated, rows, piece - own_pieces, shared_outputs.to());
                }
            });
            Setting::lap(member, profile, Part::Down);
            member.share(3, rows, |row| unsafe {
                let sum = &mut own.sum;
                sum.clear();
                sum.resize(a.hidden, 0.0);
                let choices = row * experts.used..(row + 1) * experts.used;
                for (choice, &place) in chosen[choices.clone()].iter().zip(&places[choices]) {
                    add(sum, choice.weight, outputs.row(place));
                }
                if shared.is_some() {
                    let part = if bank.weighs_shared { sigmoid(products[(row + 1) * switch - 1]) } else { 1.0 };
                    add(sum, part, shared_outputs.row(row));
                }
                match post_norm {
                    Some(norm) => {
                        let sum = std::mem::take(&mut own.sum);
                        setting.add_normed(&mut own, &sum, norm, hidden.row(row));
                        own.sum = sum;
                    }
                    None => add(hidden.row(row), a.residual_scale, sum),
                }
            });
            Setting::lap(member, profile, Part::Norm);
        });
    }

    /// Norms the rows of a layer's experts and chooses experts for them.
    fn route(&mut self, layer: &Layer, bank: &Bank, hidden: Table) {
        let setting = self.setting;
        let Some(experts) = &setting.architecture.experts else { return };
        let workspace = &mut *self.workspace;
        let (team, profile, members) = (&mut workspace.team, &workspace.profile, &workspace.members);
        let rows = setting.views.len();
        let normed = workspace.normed.rows(rows);
        let products = Table::of(&mut workspace.routed.products, rows, bank.router.outputs());
        let chosen = Table::of(&mut workspace.routed.chosen, rows, experts.used);
        team.run(&|member| {
            let mut own = members[member.index].lock().expect("a member locks its own memory once");
            // SAFETY (here and below): phases touch disjoint rows and pieces.
            let from = |row: usize| unsafe { hidden.row(row) }.as_ptr();
            if !setting.architecture.is_parallel() {
                setting.norm(member, &mut own, rows, &from, layer.feed_forward_norm.as_deref(), &normed);
                Setting::lap(member, profile, Part::Norm);
            }
            member.share(1, bank.router.pieces(), |piece| unsafe {
                bank.router.piece(setting.isa, &normed, rows, piece, products.to());
            });
            member.share(2, rows, |row| unsafe {
                let products = &products.row(row)[..experts.count];
                choose(experts, products, bank.choice_bias.as_deref(), &mut own.routing, chosen.row(row));
            });
            Setting::lap(member, profile, Part::Route);
        });
    }
}

/// `to += factor · from`.
fn add(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

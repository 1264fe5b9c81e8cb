//! Kernels against plain arithmetic, and every instruction set against the portable twin.

use half::f16;
use proptest::prelude::*;

use super::activations::Activations;
use super::attention::{Heads, Layout, POSITIONS, Scratch, Task, View, attend, remember};
use super::blocks::{Form, dequantise};
use super::distribution::{collect_from, greatest, mask_out, masses, weigh};
use super::lanes::{BLOCK, LANES};
use super::packed::{Packed, Stored};
use super::pointwise::{gate, rms_norm, rotate, soft_cap};
use super::product::{Sink, product};
use super::recurrence::{Step, convolve, let_through, make_unit, take_on};
use super::{Isa, team::Team};
use crate::gguf::GgmlType;
use crate::model::architecture::{Activation, Xielu};

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// In −1..1.
    fn value(&mut self) -> f32 {
        (self.bits() & 0xFF_FFFF) as f32 / 8_388_608.0 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }
}

const TYPES: [GgmlType; 18] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::IQ4_NL,
    GgmlType::IQ4_XS,
    GgmlType::TQ1_0,
    GgmlType::TQ2_0,
    GgmlType::MXFP4,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::F32,
];

/// A random matrix in its stored type; scales are small halves, so that every weight is finite.
fn stored(kind: GgmlType, outputs: usize, inputs: usize, noise: &mut Noise) -> Vec<u8> {
    let blocks = outputs * inputs / kind.block_elements() as usize;
    let mut bytes = Vec::new();
    for _ in 0..blocks {
        let at = bytes.len();
        match kind {
            GgmlType::F32 => bytes.extend(noise.value().to_le_bytes()),
            GgmlType::F16 => bytes.extend(f16::from_f32(noise.value()).to_le_bytes()),
            GgmlType::BF16 => bytes.extend(half::bf16::from_f32(noise.value()).to_le_bytes()),
            _ => {
                bytes.extend((0..kind.block_bytes()).map(|_| noise.bits() as u8));
                let halves: &[usize] = match kind {
                    GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 | GgmlType::IQ4_NL | GgmlType::IQ4_XS => &[0],
                    GgmlType::Q6_K => &[208],
                    GgmlType::Q2_K => &[80, 82],
                    GgmlType::Q3_K => &[108],
                    GgmlType::TQ1_0 => &[52],
                    GgmlType::TQ2_0 => &[64],
                    GgmlType::MXFP4 => {
                        bytes[at] = 118 + (noise.bits() % 8) as u8;
                        &[]
                    }
                    _ => &[0, 2],
                };
                for &half in halves {
                    let value = f16::from_f32(noise.value() * 0.1).to_le_bytes();
                    bytes[at + half..at + half + 2].copy_from_slice(&value);
                }
            }
        }
    }
    bytes
}

fn pack(kind: GgmlType, bytes: &[u8], outputs: usize, inputs: usize) -> Packed {
    let stored = Stored { kind, bytes: bytes.into(), outputs, inputs };
    Packed::pack(&[stored], |output| output).expect("memory").expect("a form for the type")
}

fn multiply(isa: Isa, matrix: &Packed, x: &[f32], count: usize) -> Vec<f32> {
    let quantised = matrix.form().is_quantised();
    let mut activations = Activations::new(matrix.inputs(), quantised, !quantised);
    let rows = activations.rows(count);
    let mut out = vec![0.0; count * matrix.outputs()];
    let (out, stride) = (&mut out, matrix.outputs());
    let sink = Sink { out: out.as_mut_ptr(), stride, shift: 0, bias: std::ptr::null(), scale: 1.0, accumulate: false };
    // SAFETY: the rows and the results were made for this shape, and one thread works.
    unsafe {
        for row in 0..count {
            rows.write(isa, row, 0, &x[row * matrix.inputs()..(row + 1) * matrix.inputs()]);
        }
        product(isa, matrix, &rows, count, 0..stride.div_ceil(LANES), sink);
    }
    std::mem::take(out)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every type, instruction set and number of rows gives the bits of the portable twin, which is
    /// near the plain sum over the weights that the matrix gives back.
    #[test]
    fn products_are_equal_on_every_instruction_set(
        kind in prop::sample::select(&TYPES[..]),
        outputs in 1usize..70,
        width in 1usize..4,
        count in 1usize..20,
        seed in any::<u64>(),
    ) {
        let inputs = width * kind.block_elements().max(BLOCK as u64) as usize;
        let mut noise = Noise(seed);
        let bytes = stored(kind, outputs, inputs, &mut noise);
        let matrix = pack(kind, &bytes, outputs, inputs);
        let x = noise.values(count * inputs);
        let twin = multiply(Isa::Portable, &matrix, &x, count);
        for isa in Isa::available() {
            prop_assert_eq!(bits(&multiply(isa, &matrix, &x, count)), bits(&twin), "{:?} {:?}", isa, kind);
            let alone = multiply(isa, &matrix, &x[..inputs], 1);
            prop_assert_eq!(bits(&alone), bits(&twin[..outputs]), "{:?} {:?} alone", isa, kind);
        }
        let mut weights = vec![0.0; inputs];
        for output in 0..outputs {
            matrix.row(output, &mut weights);
            for row in 0..count {
                let x = &x[row * inputs..(row + 1) * inputs];
                let sum: f64 = x.iter().zip(&weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                let size: f64 = weights.iter().map(|&w| f64::from(w * w)).sum::<f64>().sqrt();
                // Rounding to 8 bits errs by at most 1/254 of a block's greatest magnitude, here up to 1.
                let allowed = if matrix.form().is_quantised() { 0.02 * size } else { 1e-5 * size };
                let found = f64::from(twin[row * outputs + output]);
                prop_assert!((found - sum).abs() <= allowed + 1e-6, "{:?}: {} for {}", kind, found, sum);
            }
        }
    }

    /// Pointwise kernels on every instruction set give the bits of the portable twin.
    #[test]
    fn pointwise_kernels_are_equal_on_every_instruction_set(vectors in 1usize..9, odd in 0usize..15, seed in any::<u64>()) {
        let mut noise = Noise(seed);
        let x: Vec<f32> = noise.values(vectors * LANES + odd).into_iter().map(|x| x * 30.0).collect();
        let y = noise.values(x.len());
        let run = |isa: Isa| {
            let mut results = Vec::new();
            let mut out = vec![0.0; x.len()];
            rms_norm(isa, &x, &y, 1e-5, &mut out);
            results.extend(bits(&out));
            results.push(greatest(isa, &x).to_bits());
            let mut masked = vec![0.0; x.len()];
            let mask: Vec<u32> = (0..x.len().div_ceil(32)).map(|word| seed as u32 ^ (word as u32 * 77)).collect();
            mask_out(isa, &x, &mask, &mut masked);
            results.extend(bits(&masked));
            let (all, kept) = masses(isa, &x, &masked, 30.0);
            results.extend([all.to_bits(), kept.to_bits()]);
            results.push(weigh(isa, &masked, 30.0, 0.7, &mut out).to_bits());
            results.extend(bits(&out));
            let mut found = Vec::new();
            collect_from(isa, &x, 3.0, &mut found);
            results.extend(found.iter().flat_map(|&(value, id)| [value.to_bits(), id]));
            let whole = vectors * LANES;
            let mut gated = x[..whole].to_vec();
            gate(isa, Activation::Silu, &mut gated, &y[..whole]);
            results.extend(bits(&gated));
            gated.copy_from_slice(&x[..whole]);
            gate(isa, Activation::GeluTanh, &mut gated, &y[..whole]);
            results.extend(bits(&gated));
            let xielu = Xielu { positive: 0.8, negative: 1.3, slope: 0.5, least: -1e-6 };
            for activation in [Activation::ClampedSilu, Activation::SquaredRelu, Activation::Xielu(xielu)] {
                gated.copy_from_slice(&x[..whole]);
                gate(isa, activation, &mut gated, &y[..whole]);
                for (at, &found) in gated.iter().enumerate() {
                    let (x, up) = (f64::from(x[at]), f64::from(y[at]).clamp(-7.0, 7.0));
                    let exact = match activation {
                        Activation::ClampedSilu => x.min(7.0) / (1.0 + (-1.702 * x.min(7.0)).exp()) * (up + 1.0),
                        Activation::SquaredRelu => x.max(0.0).powi(2),
                        _ if x > 0.0 => 0.8 * x * x + 0.5 * x,
                        _ => 1.3 * (x.min(-1e-6).exp_m1() - x) + 0.5 * x,
                    };
                    let near = (f64::from(found) - exact).abs() < 2e-6 * exact.abs().max(1.0);
                    assert!(near, "{activation:?} of {x}: {found}, exactly {exact}");
                }
                results.extend(bits(&gated));
            }
            let mut capped = x.clone();
            soft_cap(isa, &mut capped, 7.5);
            results.extend(bits(&capped));
            let half = x.len() / 2;
            let mut head = x[..half * 2].to_vec();
            rotate(isa, &mut head, &y[..half], &y[half..half * 2], 0.125);
            results.extend(bits(&head));
            results
        };
        let twin = run(Isa::Portable);
        for isa in Isa::available() {
            prop_assert_eq!(&run(isa), &twin, "{:?}", isa);
        }
        let mut out = vec![0.0; x.len()];
        let total = weigh(Isa::Portable, &x, 30.0, 1.0, &mut out);
        prop_assert!((total - out.iter().sum::<f32>()).abs() < 1e-5 * total.max(1e-30));
        let mut found = Vec::new();
        collect_from(Isa::Portable, &x, 3.0, &mut found);
        let expected: Vec<(f32, u32)> = (0..).zip(&x).filter(|(_, x)| **x >= 3.0).map(|(id, x)| (*x, id)).collect();
        prop_assert_eq!(found, expected);
        let ones = vec![1.0; vectors * LANES];
        let mut gated = x[..vectors * LANES].to_vec();
        gate(Isa::Portable, Activation::GeluTanh, &mut gated, &ones);
        let mut capped = x.clone();
        soft_cap(Isa::Portable, &mut capped, 7.5);
        for (index, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let gelu = 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh());
            if let Some(&found) = gated.get(index) {
                prop_assert!((f64::from(found) - gelu).abs() < 1e-5, "gelu({}) is {}", x, found);
            }
            let found = f64::from(capped[index]);
            prop_assert!((found - 7.5 * (x / 7.5).tanh()).abs() < 5e-6, "{} capped is {}", x, found);
        }
        for (x, weight) in x.iter().zip(out) {
            let exact = f64::from(x - 30.0).exp();
            prop_assert!((f64::from(weight) - exact).abs() <= 4e-7 * exact, "exp({}) is {}", x - 30.0, weight);
        }
    }

    /// What recurrent layers compute is what their formulas say, and the same to the bit on every instruction set.
    #[test]
    fn recurrence_is_that_of_its_formulas(
        vectors in 1usize..5,
        more in 0usize..3,
        taps in 2usize..6,
        is_silu in any::<bool>(),
        corrects in any::<bool>(),
        decay in 0f32..1.0,
        rate in 0f32..1.0,
        seed in any::<u64>(),
    ) {
        let mut noise = Noise(seed);
        // Of values, and of keys.
        let (width, keys) = (vectors * LANES, (vectors + more) * LANES);
        let inputs: Vec<Vec<f32>> = (0..taps).map(|_| noise.values(width)).collect();
        let (weights, gates) = (noise.values((taps + 1) * width), noise.values(width));
        let (asks, value) = (noise.values(width), noise.values(width));
        let [query, mut key] = [(); 2].map(|()| noise.values(keys));
        make_unit(Isa::Portable, &mut key, 1.0, 1e-6);
        let before = noise.values(keys * width);
        let run = |isa: Isa| {
            let pointers: Vec<*const f32> = inputs.iter().map(Vec::as_ptr).collect();
            let (mut convolved, mut gated, mut unit) = (vec![0.0; width], asks.clone(), value.clone());
            // SAFETY: every input is as wide as the result.
            unsafe { convolve(isa, &pointers, &weights, is_silu, &mut convolved) };
            let_through(isa, &mut gated, &gates, is_silu);
            make_unit(isa, &mut unit, 0.5, 1e-6);
            let (mut state, mut said) = (before.clone(), vec![0.0; width]);
            let step = Step { query: &query, key: &key, value: &value, decay, rate, corrects };
            take_on(isa, &mut state, step, &mut said);
            [convolved, gated, unit, state, said]
        };
        let twin = run(Isa::Portable);
        for isa in Isa::available() {
            for (found, twin) in run(isa).iter().zip(&twin) {
                prop_assert_eq!(bits(found), bits(twin), "{:?}", isa);
            }
        }
        let [convolved, gated, unit, state, said] = twin;
        let let_through = |x: f64| if is_silu { x / (1.0 + (-x).exp()) } else { 1.0 / (1.0 + (-x).exp()) };
        let near = |found: f32, exact: f64| (f64::from(found) - exact).abs() < 1e-5 * exact.abs().max(1.0);
        let length = value.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        for channel in 0..width {
            let bias = f64::from(weights[taps * width + channel]);
            let sum: f64 = bias + (0..taps).map(|t| f64::from(inputs[t][channel]) * f64::from(weights[t * width + channel])).sum::<f64>();
            let expected = if is_silu { let_through(sum) } else { sum };
            prop_assert!(near(convolved[channel], expected));
            prop_assert!(near(gated[channel], f64::from(asks[channel]) * let_through(f64::from(gates[channel]))));
            prop_assert!(near(unit[channel], f64::from(value[channel]) * 0.5 / (length + 1e-6).sqrt()));
        }
        // Sixteen values at a time, a row a key.
        let place = |k: usize, v: usize| v / LANES * LANES * keys + k * LANES + v % LANES;
        for v in 0..width {
            let kept = |k: usize| f64::from(decay) * f64::from(before[place(k, v)]);
            let known: f64 = (0..keys).map(|k| kept(k) * f64::from(key[k])).sum();
            let delta = f64::from(value[v]) - if corrects { known } else { 0.0 };
            let after = |k: usize| kept(k) + f64::from(key[k]) * f64::from(rate) * delta;
            prop_assert!((0..keys).all(|k| near(state[place(k, v)], after(k))));
            let asked: f64 = (0..keys).map(|k| after(k) * f64::from(query[k])).sum();
            prop_assert!(near(said[v], asked), "{} for {}", said[v], asked);
        }
    }

    /// Attention over blocks, shared or not, equals softmax over everything, and to the bit whatever
    /// the instruction set and the rows beside it.
    #[test]
    fn attention_is_equal_alone_and_in_company(
        group in 1usize..4,
        vectors in 1usize..6,
        lengths in prop::collection::vec(1usize..100, 1..6),
        shared_blocks in 0usize..3,
        window in prop::option::of(1usize..90),
        cap in prop::option::of(0.5f32..20.0),
        sink in prop::option::of(-3f32..30.0),
        seed in any::<u64>(),
    ) {
        let layout = Layout { heads: 2 * group, kv_heads: 2, head_dim: vectors * LANES };
        let sinks: Option<Vec<f32>> = sink.map(|sink| (0..layout.heads).map(|head| sink - head as f32).collect());
        let mut noise = Noise(seed);
        let (width, kv_width) = (layout.heads * layout.head_dim, layout.kv_heads * layout.head_dim);
        let mut pool: Vec<Vec<u16>> = Vec::new();
        let mut tables: Vec<Vec<usize>> = Vec::new();
        let mut kept: Vec<Vec<(Vec<f32>, Vec<f32>)>> = Vec::new();
        for (sequence, &length) in lengths.iter().enumerate() {
            let mut table = Vec::new();
            let mut rows: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
            for index in 0..length.div_ceil(POSITIONS) {
                if index < shared_blocks && sequence > 0 && lengths[0] >= (index + 1) * POSITIONS {
                    table.push(tables[0][index]);
                    rows.extend_from_slice(&kept[0][index * POSITIONS..(index + 1) * POSITIONS]);
                } else {
                    table.push(pool.len());
                    pool.push(vec![0; layout.layer_elements()]);
                    rows.extend((0..POSITIONS).map(|_| (noise.values(kv_width), noise.values(kv_width))));
                }
            }
            rows.truncate(length);
            tables.push(table);
            kept.push(rows);
        }
        let pointers: Vec<*mut u16> = pool.iter_mut().map(Vec::as_mut_ptr).collect();
        let tables: Vec<Vec<*mut u16>> =
            tables.iter().map(|table| table.iter().map(|&block| pointers[block]).collect()).collect();
        let view = |sequence: usize, position| View { blocks: tables[sequence].as_ptr(), position };
        for (sequence, rows) in kept.iter().enumerate() {
            for (position, (key, value)) in rows.iter().enumerate() {
                // SAFETY: the block has the layout's size, and one thread works.
                unsafe { remember(Isa::detect(), layout, view(sequence, position), 0, key, value) };
            }
        }
        let views: Vec<View> = lengths.iter().enumerate().map(|(s, &length)| view(s, length - 1)).collect();
        let queries = noise.values(views.len() * width);
        let run = |isa: Isa, rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; views.len() * width];
            let heads = Heads { queries: queries.as_ptr(), query_stride: width, out: out.as_mut_ptr(), out_stride: width };
            for kv_head in 0..layout.kv_heads {
                let rows = rows.clone();
                let task = Task { layout, layer_offset: 0, views: &views, heads, kv_head, rows, window, cap, sinks: sinks.as_deref() };
                // SAFETY: the results have room for every row, and one thread works.
                unsafe { attend(isa, &task, &mut Scratch::default()) };
            }
            out[rows.start * width..rows.end * width].to_vec()
        };
        let twin = run(Isa::Portable, 0..views.len());
        for isa in Isa::available() {
            prop_assert_eq!(bits(&run(isa, 0..views.len())), bits(&twin), "{:?}", isa);
            for row in 0..views.len() {
                prop_assert_eq!(bits(&run(isa, row..row + 1)), bits(&twin[row * width..(row + 1) * width]), "{:?} alone", isa);
            }
        }
        for (sequence, rows) in kept.iter().enumerate() {
            for head in 0..layout.heads {
                let kv = head / group * layout.head_dim;
                let query = &queries[sequence * width + head * layout.head_dim..][..layout.head_dim];
                let seen = window.unwrap_or(rows.len()).min(rows.len());
                let rows = &rows[rows.len() - seen..];
                let scores: Vec<f64> = rows.iter().map(|(key, _)| {
                    let score: f64 = query.iter().zip(&key[kv..]).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                    cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                }).collect();
                let sink = sinks.as_ref().map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                let total = scores.iter().map(|score| score.exp()).sum::<f64>() + sink;
                for d in 0..layout.head_dim {
                    let mixed: f64 =
                        rows.iter().zip(&scores).map(|((_, v), s)| s.exp() / total * f64::from(v[kv + d])).sum();
                    let found = f64::from(twin[sequence * width + head * layout.head_dim + d]);
                    // Keys and values are kept as f16.
                    prop_assert!((found - mixed).abs() < 4e-3, "{} for {}", found, mixed);
                }
            }
        }
    }
}

#[test]
fn forms_cover_the_types_that_are_promised() {
    assert!(TYPES.iter().all(|&kind| Form::of(kind).is_some()));
    assert_eq!(Form::of(GgmlType::Q8_K), None);
}

#[test]
fn a_team_shares_every_piece_once_and_survives_many_jobs() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for size in 1..4 {
        let mut team = Team::new(size);
        for job in 0..300 {
            let counts: Vec<AtomicUsize> = (0..job % 17).map(|_| AtomicUsize::new(0)).collect();
            team.run(&|member| {
                member.share(0, counts.len(), |piece| {
                    counts[piece].fetch_add(1, Ordering::Relaxed);
                });
                // After the barrier every piece of the phase before is done.
                member.share(1, counts.len(), |piece| assert_eq!(counts[piece].load(Ordering::Relaxed), 1));
            });
        }
    }
}

#[test]
fn a_panic_of_a_member_reaches_the_caller() {
    let caught = std::panic::catch_unwind(|| {
        Team::new(2).run(&|member| member.share(0, 2, |piece| assert_eq!(piece, 0, "on purpose")));
    });
    assert!(caught.is_err());
}

#[test]
fn blocks_are_read_to_the_bit_as_the_reference_reads_them() {
    let kinds = [
        GgmlType::Q2_K,
        GgmlType::Q3_K,
        GgmlType::IQ4_NL,
        GgmlType::IQ4_XS,
        GgmlType::TQ1_0,
        GgmlType::TQ2_0,
        GgmlType::MXFP4,
    ];
    let all: serde_json::Value =
        serde_json::from_str(include_str!("../../../../../tests/fixtures/blocks.json")).expect("JSON");
    for kind in kinds {
        let bytes = |field: &str| -> Vec<u8> {
            let text = all[format!("{kind:?}")][field].as_str().expect("a text").as_bytes();
            let digit = |at: usize| (text[at] as char).to_digit(16).expect("a digit") as u8;
            (0..text.len() / 2).map(|at| digit(at * 2) << 4 | digit(at * 2 + 1)).collect()
        };
        let expected: Vec<u32> =
            bytes("values").as_chunks::<4>().0.iter().map(|value| u32::from_le_bytes(*value)).collect();
        let mut values = vec![0.0; expected.len()];
        dequantise(kind, &bytes("blocks"), &mut values);
        assert_eq!(bits(&values), expected, "{kind:?}");
    }
}

//! Counter-based random numbers: a draw is a function of (run seed, row, step, attempt, index).
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Nothing
//! is carried from one draw to the next, so batch size, order, resume and threads change no row.

/// Names one stream of draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Seed of the run.
    pub seed: u64,
    /// Row of the plan.
    pub row: u32,
    /// Step of the recipe.
    pub step: u16,
    /// Attempt at the row.
    pub attempt: u16,
}

impl StreamKey {
    /// Four uniform 32-bit words for draw `index`.
    pub fn words(&self, index: u32) -> [u32; 4] {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let place = (u32::from(self.step) << 16) | u32::from(self.attempt);
        philox([index, self.row, place, 0], key)
    }

    /// A uniform number in `[0, 1)` with 53 bits for draw `index`.
    pub fn uniform(&self, index: u32) -> f64 {
        let [a, b, ..] = self.words(index);
        let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// A uniform index below `count` for draw `index`; 0 when `count` is 0.
    pub fn below(&self, index: u32, count: usize) -> usize {
        let [a, b, ..] = self.words(index);
        let wide = u128::from(u64::from(a) << 32 | u64::from(b)) * count as u128;
        (wide >> 64) as usize
    }
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        // Known-answer vectors of the Random123 distribution.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn draws_are_uniform_and_depend_on_every_part_of_the_key() {
        let key = StreamKey { seed: 7, row: 3, step: 1, attempt: 0 };
        let mean = (0..10_000).map(|i| key.uniform(i)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let others = [
            StreamKey { seed: 8, ..key },
            StreamKey { row: 4, ..key },
            StreamKey { step: 2, ..key },
            StreamKey { attempt: 1, ..key },
        ];
        for other in others {
            assert_ne!(other.words(0), key.words(0));
        }
        assert!((0..1000).all(|i| key.below(i, 7) < 7));
        assert_eq!(key.below(0, 0), 0);
    }
}

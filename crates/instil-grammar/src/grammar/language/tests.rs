//! The algebra against brute force on short words, and what searches may cost.

use super::*;

/// An expression beside its plain meaning.
#[derive(Debug)]
enum Plain {
    Class(&'static str),
    Text(&'static str),
    Concat(Box<Plain>, Box<Plain>),
    Or(Box<Plain>, Box<Plain>),
    And(Box<Plain>, Box<Plain>),
    Not(Box<Plain>),
    Repeat(Box<Plain>, u32, u32),
    Length(u32, u32),
}

impl Plain {
    fn random(next: &mut impl FnMut(u32) -> u32, depth: u32) -> Self {
        let inner = |next: &mut _| Box::new(Self::random(next, depth - 1));
        match next(if depth == 0 { 2 } else { 8 }) {
            0 => Self::Class(["a", "b", "ab", "é", "aé"][next(5) as usize]),
            1 => Self::Text(["", "a", "ab", "ba", "aab", "é"][next(6) as usize]),
            2 | 3 => Self::Concat(inner(next), inner(next)),
            4 => Self::Or(inner(next), inner(next)),
            5 => Self::And(inner(next), inner(next)),
            6 if next(2) == 0 => Self::Not(inner(next)),
            6 => Self::Length(next(3), if next(3) == 0 { INFINITE } else { 2 + next(3) }),
            _ => {
                let min = next(3);
                Self::Repeat(inner(next), min, if next(2) == 0 { INFINITE } else { min + next(3) })
            }
        }
    }

    fn build(&self, languages: &mut Languages) -> ExprId {
        match self {
            Self::Class(chars) => languages.class(CharSet::ascii_of(chars)),
            Self::Text(text) => languages.text(text),
            Self::Concat(a, b) => {
                let (a, b) = (a.build(languages), b.build(languages));
                languages.concat(a, b)
            }
            Self::Or(a, b) => {
                let (a, b) = (a.build(languages), b.build(languages));
                languages.or2(a, b)
            }
            Self::And(a, b) => {
                let (a, b) = (a.build(languages), b.build(languages));
                languages.and2(a, b)
            }
            Self::Not(a) => {
                let a = a.build(languages);
                languages.not(a)
            }
            Self::Repeat(a, min, max) => {
                let a = a.build(languages);
                languages.repeat(a, *min, *max)
            }
            Self::Length(min, max) => languages.length_between(*min, *max),
        }
    }

    /// Membership by trying every split.
    fn holds(&self, word: &[char]) -> bool {
        match self {
            Self::Class(chars) => matches!(word, [c] if chars.contains(*c)),
            Self::Text(text) => text.chars().eq(word.iter().copied()),
            Self::Concat(a, b) => (0..=word.len()).any(|at| a.holds(&word[..at]) && b.holds(&word[at..])),
            Self::Or(a, b) => a.holds(word) || b.holds(word),
            Self::And(a, b) => a.holds(word) && b.holds(word),
            Self::Not(a) => !a.holds(word),
            Self::Repeat(_, 0, _) if word.is_empty() => true,
            Self::Repeat(_, _, 0) => word.is_empty(),
            Self::Repeat(a, min, max) => {
                let rest = |word: &[char]| {
                    let max = if *max == INFINITE { INFINITE } else { max - 1 };
                    Self::repeat_holds(a, min.saturating_sub(1), max, word)
                };
                (word.is_empty() && a.holds(word))
                    || (1..=word.len()).any(|at| a.holds(&word[..at]) && rest(&word[at..]))
                    || (*min > 0 && a.holds(&[]) && Self::repeat_holds(a, 0, *max, word))
            }
            Self::Length(min, max) => (*min as usize..=*max as usize).contains(&word.len()),
        }
    }

    fn repeat_holds(a: &Self, min: u32, max: u32, word: &[char]) -> bool {
        if word.is_empty() {
            return min == 0 || a.holds(word);
        }
        if max == 0 {
            return false;
        }
        let next = if max == INFINITE { INFINITE } else { max - 1 };
        (1..=word.len())
            .any(|at| a.holds(&word[..at]) && Self::repeat_holds(a, min.saturating_sub(1), next, &word[at..]))
            || (min > 0 && a.holds(&[]) && Self::repeat_holds(a, 0, max, word))
    }
}

#[test]
fn what_a_part_lets_in_nowhere_is_known_to_be_missing() {
    let mut languages = Languages::new();
    let digits = languages.class(CharSet::ascii_of("0123456789:"));
    let time = languages.repeat(digits, 8, INFINITE);
    let letter = languages.class(CharSet::one('T'));
    let dated = languages.sequence(&[ANY, letter, ANY]);
    let both = languages.and2(time, dated);
    let before = languages.count();
    assert!(languages.is_empty(both));
    assert!(languages.count() - before < 8, "{} expressions", languages.count() - before);
    let words = languages.words(["a:1", "1T", "12T"]);
    let (either, some) = (languages.or2(digits, letter), languages.repeat(digits, 1, 2));
    let some = languages.concat(some, either);
    let both = languages.and2(words, some);
    assert!(!languages.is_empty(both), "1T and 12T are in both");
}

#[test]
fn searches_that_lead_nowhere_grow_cheap() {
    let mut languages = Languages::new();
    let parts = ["AB", "CD", "EF"].map(|chars| {
        let class = languages.class(CharSet::ascii_of(chars));
        languages.sequence(&[ANY, class, ANY])
    });
    let long = languages.class(CharSet::one('\n').complement());
    let long = languages.repeat(long, 5_000, 6_000);
    let mut state = languages.and([&parts[..], &[long]].concat());
    for at in 0..200 {
        for c in ['A', 'C', 'E', 'x'] {
            let next = languages.derive(state, c.into());
            assert!(!languages.is_empty(next));
            if at % 4 == c as usize % 4 {
                state = next;
            }
        }
    }
    assert!(languages.count() < 60_000, "{} expressions", languages.count());
}

/// The states of a language without a word that goes on for 6,000 characters, one after the other.
fn dying_states(languages: &mut Languages) -> Vec<ExprId> {
    let a = languages.class(CharSet::one('a'));
    let three = languages.repeat(a, 3, 3);
    let bounded = languages.repeat(three, 0, 2_000);
    let any = languages.repeat(three, 0, INFINITE);
    let shifted = languages.concat(any, a);
    let first = languages.and2(bounded, shifted);
    let after = |&e: &ExprId| Some(languages.derive(e, 'a' as u32)).filter(|&next| next != NONE);
    std::iter::successors(Some(first), after).collect()
}

#[test]
fn what_counts_as_empty_does_not_depend_on_what_was_asked_before() {
    let ask = |order: &dyn Fn(usize) -> Vec<usize>| {
        let mut languages = Languages::new();
        let states = dying_states(&mut languages);
        let mut empty = vec![None; states.len()];
        for at in order(states.len()) {
            empty[at] = Some(languages.is_empty(states[at]));
        }
        empty
    };
    let forward = ask(&|count| (0..count).collect());
    assert_eq!(forward, ask(&|count| (0..count).rev().collect()));
    // From the middle outwards, and one state of many by itself.
    assert_eq!(forward, ask(&|count| (count / 2..count).chain(0..count / 2).collect()));
    for at in [1, 1_500, 1_990, 2_010, 2_500, 5_000] {
        assert_eq!(forward[at], ask(&|_| vec![at])[at], "state {at}");
    }
    let dead = forward.iter().filter(|empty| **empty == Some(true)).count();
    assert!((3_900..4_100).contains(&dead), "{dead} of {} states", forward.len());
}

#[test]
fn algebra_agrees_with_brute_force_on_short_words() {
    let alphabet = ['a', 'b', 'é'];
    let mut words: Vec<Vec<char>> = vec![Vec::new()];
    let mut last = words.clone();
    for _ in 0..4 {
        last = last.iter().flat_map(|word| alphabet.map(|c| [&word[..], &[c]].concat())).collect();
        words.extend(last.iter().cloned());
    }
    let mut seed = 7u64;
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(seed >> 33).expect("31 bits") % below
    };
    for round in 0..1500 {
        let plain = Plain::random(&mut next, 4);
        let mut languages = Languages::new();
        let e = plain.build(&mut languages);
        let mut shortest = None;
        for word in &words {
            let text: String = word.iter().collect();
            let expected = plain.holds(word);
            assert_eq!(languages.matches(e, &text), expected, "round {round}: {text:?} in {plain:?}");
            if expected {
                let bytes = u32::try_from(text.len()).expect("short");
                shortest = Some(shortest.map_or(bytes, |least: u32| least.min(bytes)));
                assert!((languages.length(e).0 as usize..=languages.length(e).1 as usize).contains(&word.len()));
            }
            let near = languages.horizon(e, 4);
            let state = text.chars().fold(near, |state, c| languages.derive(state, c as u32));
            let exact = text.chars().fold(e, |state, c| languages.derive(state, c as u32));
            assert_eq!(languages.is_empty(state), languages.is_empty(exact), "round {round}: horizon at {text:?}");
        }
        if let Some(shortest) = shortest {
            assert!(!languages.is_empty(e), "round {round}");
            let found = languages.min_cost(e, Cost::Raw).expect("not empty");
            assert!(found <= shortest, "round {round}: {found} > {shortest}");
        }
        if languages.is_empty(e) {
            assert_eq!(shortest, None, "round {round}");
        }
    }
}

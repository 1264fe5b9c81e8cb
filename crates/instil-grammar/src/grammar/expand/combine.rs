//! Whole sets of alternatives: both, either, surely not both.

use super::super::language::NONE;
use super::super::node::{Alternatives, Case, ObjectBody, Signed};
use super::super::number::NumberSet;
use super::{CASE_LIMIT, Expansion};

impl Expansion {
    /// Intersection; `check` stands for `other` where the cases would be too many.
    pub(in crate::grammar) fn meet(&mut self, result: &mut Alternatives, other: &Alternatives, check: Signed) {
        result.null &= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine &= theirs;
        }
        let mut numbers: Vec<Case<NumberSet>> = Vec::new();
        for a in &result.numbers {
            for b in &other.numbers {
                let guards = a.joined_guards(b);
                let case = match a.body.intersection(&b.body) {
                    Some(body) => Case { body, guards },
                    None => {
                        let mut case = Case { body: a.body.clone(), guards };
                        case.guard(check);
                        case
                    }
                };
                if !case.body.is_none() {
                    numbers.push(case);
                }
            }
        }
        result.numbers = numbers;
        let mut strings = Vec::new();
        for a in &result.strings {
            for b in &other.strings {
                let body = self.languages.and2(a.body, b.body);
                if body != NONE {
                    strings.push(Case { body, guards: a.joined_guards(b) });
                }
            }
        }
        result.strings = strings;
        if result.arrays.len() > 1 && other.arrays.len() > 1 && result.arrays.len() * other.arrays.len() > CASE_LIMIT {
            result.arrays.iter_mut().for_each(|case| case.guard(check));
        } else {
            let mut arrays = Vec::new();
            for a in std::mem::take(&mut result.arrays) {
                for b in &other.arrays {
                    let mut body = a.body.clone();
                    if self.meet_arrays(&mut body, &b.body) {
                        arrays.push(Case { body, guards: a.joined_guards(b) });
                    }
                }
            }
            result.arrays = arrays;
        }
        self.meet_objects(&mut result.objects, &other.objects, || Some(check));
    }

    /// Union.
    pub(in crate::grammar) fn join(&mut self, result: &mut Alternatives, other: &Alternatives) {
        result.null |= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine |= theirs;
        }
        for case in &other.numbers {
            match result.numbers.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = std::mem::replace(&mut mine.body, NumberSet::none()).union(case.body.clone()),
                None => result.numbers.push(case.clone()),
            }
        }
        for case in &other.strings {
            match result.strings.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = self.languages.or2(mine.body, case.body),
                None => result.strings.push(case.clone()),
            }
        }
        // A case that allows everything swallows the others.
        let free = |case: &Case<ObjectBody>| case.guards.is_empty() && case.body.is_free();
        if other.objects.iter().any(free) {
            result.objects = vec![Case::plain(ObjectBody::default())];
        } else if !result.objects.iter().any(free) {
            result.objects.extend_from_slice(&other.objects);
        }
        result.arrays.extend_from_slice(&other.arrays);
    }

    /// No value in both, told by types and by members that both must have.
    pub(in crate::grammar) fn is_plainly_disjoint(&mut self, a: &Alternatives, b: &Alternatives) -> bool {
        if (a.null && b.null)
            || (0..2).any(|at| a.booleans[at] && b.booleans[at])
            || !(a.arrays.is_empty() || b.arrays.is_empty())
        {
            return false;
        }
        for a in &a.numbers {
            for b in &b.numbers {
                if a.body.intersection(&b.body).is_none_or(|both| !both.is_none()) {
                    return false;
                }
            }
        }
        for a in &a.strings {
            for b in &b.strings {
                if self.languages.and2(a.body, b.body) != NONE {
                    return false;
                }
            }
        }
        for a in &a.objects {
            for b in &b.objects {
                let apart = a.body.slots().iter().any(|slot| {
                    b.body.find(&slot.name).is_some_and(|at| {
                        (slot.required || b.body.slots()[at].required) && {
                            let both = self.meet_nodes(slot.node, b.body.slots()[at].node);
                            self.is_surely_empty(both)
                        }
                    })
                });
                if !apart {
                    return false;
                }
            }
        }
        true
    }
}

//! What the user probably meant: the nearest known word to one that is not known.

/// The candidate nearest to `word`, when one is near enough to be what was meant: as a whole, or
/// in how it begins.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let beginning = |length| candidate.chars().take(length).collect::<String>();
            let part = (length.saturating_sub(1)..=length + 1).map(|length| distance(word, &beginning(length))).min();
            let (whole, part) = (distance(word, candidate), part.unwrap_or(length));
            let is_part = length >= 3 && (part <= length / 4 || candidate.contains(word));
            let is_near = whole <= 2.max(candidate.chars().count() / 3);
            (is_near || is_part).then_some((if is_part { part.min(whole) } else { whole }, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// What a reader of TOML or YAML said, as (what, remedy): one line, with the nearest known key or value.
pub(crate) fn explain(message: &str) -> (String, String) {
    let message = message.lines().next().unwrap_or_default();
    let (unknown, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let unknown = unknown.split('`').nth(1).filter(|_| message.starts_with("unknown "));
    let Some(unknown) = unknown else { return (message.to_owned(), String::new()) };
    let listed = expected.strip_prefix("one of ").unwrap_or(expected);
    let names = listed.split(", ").flat_map(|part| part.split(" or "));
    let known: Vec<&str> = names.map(|name| name.trim().trim_matches('`')).filter(|name| !name.is_empty()).collect();
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    let remedy = match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it can be: {}", known.join(", ")),
    };
    (format!("unknown {what} `{unknown}`"), remedy)
}

/// Edits (insert, delete, replace, swap neighbours) that turn `a` into `b`: the restricted
/// Damerau-Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let names = ["smollm2-135m-instruct", "qwen3-0.6b"];
        assert_eq!(nearest("smolm2-135m-instruct", names), Some(names[0]));
        assert_eq!(nearest("qwen3-06b", names), Some(names[1]));
        assert_eq!(nearest("smollm", names), Some(names[0]));
        assert_eq!(nearest("smolm2-135m", names), Some(names[0]));
        assert_eq!(nearest("smolm2", names), Some(names[0]));
        assert_eq!(nearest("135m", names), Some(names[0]));
        assert_eq!(nearest("gpt", names), None);
        assert_eq!(distance("ab", "ba"), 1);
    }
}

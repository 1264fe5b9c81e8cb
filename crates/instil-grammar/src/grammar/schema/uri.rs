//! References against a base (RFC 3986, section 5.2), as far as names of schemas need them.

/// The parts of a URI reference without its fragment (appendix B).
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(reference: &'a str) -> Self {
        let is_scheme = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        };
        let (scheme, rest) = match reference.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, reference),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                Self { scheme, authority: Some(authority), path, query }
            }
            None => Self { scheme, authority: None, path: rest, query },
        }
    }
}

/// `reference`, which has no fragment, against `base`, which is absolute or empty.
pub(super) fn join(base: &str, reference: &str) -> String {
    let (own, of_base) = (Parts::of(reference), Parts::of(base));
    let (scheme, authority, path, query) = match &own {
        Parts { scheme: Some(_), .. } => (own.scheme, own.authority, without_dots(own.path), own.query),
        Parts { authority: Some(_), .. } => (of_base.scheme, own.authority, without_dots(own.path), own.query),
        Parts { path: "", .. } => {
            (of_base.scheme, of_base.authority, of_base.path.to_owned(), own.query.or(of_base.query))
        }
        _ if own.path.starts_with('/') => (of_base.scheme, of_base.authority, without_dots(own.path), own.query),
        _ => {
            let merged = match of_base.path.rfind('/') {
                Some(slash) => format!("{}{}", &of_base.path[..=slash], own.path),
                None if of_base.authority.is_some() => format!("/{}", own.path),
                None => own.path.to_owned(),
            };
            (of_base.scheme, of_base.authority, without_dots(&merged), own.query)
        }
    };
    let mut whole = String::new();
    whole.extend(scheme.into_iter().flat_map(|scheme| [scheme, ":"]));
    whole.extend(authority.into_iter().flat_map(|authority| ["//", authority]));
    whole += &path;
    whole.extend(query.into_iter().flat_map(|query| ["?", query]));
    whole
}

/// A path without its `.` and `..` (section 5.2.4).
fn without_dots(path: &str) -> String {
    if !path.contains('.') {
        return path.to_owned();
    }
    let is_rooted = path.starts_with('/');
    let steps: Vec<&str> = path.split('/').skip(usize::from(is_rooted)).collect();
    let mut kept: Vec<&str> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            "." | ".." => {
                if *step == ".." {
                    kept.pop();
                }
                if at + 1 == steps.len() {
                    kept.push("");
                }
            }
            step => kept.push(step),
        }
    }
    format!("{}{}", if is_rooted { "/" } else { "" }, kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn references_are_resolved_as_the_standard_shows_it() {
        // Section 5.4, without fragments.
        let base = "http://a/b/c/d;p?q";
        for (reference, target) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("urn:example:a", "urn:example:a"),
        ] {
            assert_eq!(join(base, reference), target, "{reference}");
        }
        assert_eq!(join("", "v1/user.json"), "v1/user.json");
        assert_eq!(join("http://a", "g"), "http://a/g");
        assert_eq!(join("urn:example:root", "urn:example:other"), "urn:example:other");
    }
}

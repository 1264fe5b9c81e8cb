//! The one way to leave a test out: aloud, and not where its subject is required.

/// Says on standard error that `what` is left out, and how to have it; fails where `INSTIL_REQUIRE_KIND` is set.
pub fn skip(kind: &str, what: &str, how: &str) {
    let variable = format!("INSTIL_REQUIRE_{kind}");
    assert!(std::env::var_os(&variable).is_none(), "{variable} is set, and {what} cannot be tested: {how}");
    eprintln!("SKIPPED: {what}; {how}");
}

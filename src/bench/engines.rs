//! The engines that `bench masks` compares, each behind [`Engine`](super::masks::Engine).
//!
//! `instil` is always there; the peers come with the cargo feature `peers`.

pub(crate) mod instil;
#[cfg(feature = "peers")]
pub(crate) mod llguidance;
pub(crate) mod outlines;

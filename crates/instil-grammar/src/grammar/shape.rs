//! What a place in a JSON text allows, in a form an automaton can run: a node is a union of shapes.
//!
//! The front end writes these and the constraint engine runs them; neither knows the other's
//! insides. Everything is expanded lazily: `Expansion::shapes` normalises a node on first use.

use std::sync::Arc;

/// A place where one JSON value stands; index into the expansion's nodes. Nodes are interned:
/// equal sets of obligations have equal ids, so recursion closes.
pub type NodeId = u32;
/// A regular language; index into the expansion's languages, interned likewise.
pub type LangId = u32;
/// A check on a finished value that no automaton holds.
pub type GuardId = u32;

/// One alternative of a node. A value belongs to the node when it belongs to at least one shape.
/// Shapes of one node may overlap; each is satisfiable (the front end prunes empty ones).
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the value looks like.
    pub kind: ShapeKind,
    /// Checked when a value of this shape is complete; all must hold. Empty in the common case.
    pub guards: Vec<GuardId>,
}

/// What the value looks like.
#[derive(Clone, Debug)]
pub enum ShapeKind {
    /// `null`
    Null,
    /// `true` / `false`
    Bool(bool),
    /// A number: the language of its literal bytes (canonical and other spellings).
    Number(LangId),
    /// A string.
    String(StringShape),
    /// An array.
    Array(ArrayShape),
    /// An object.
    Object(Arc<ObjectShape>),
}

/// A string: its decoded UTF-8 content is in `lang` and its length in Unicode scalar values is
/// within the bounds. The front end guarantees that bounds and language are jointly satisfiable
/// *from every live state* only where `lang` is universal; otherwise it folds the bounds into
/// `lang` and leaves `min_chars = 0, max_chars = None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StringShape {
    /// Language of the decoded content.
    pub lang: LangId,
    /// Least number of Unicode scalar values.
    pub min_chars: u32,
    /// Greatest number, if bounded.
    pub max_chars: Option<u32>,
}

/// An array. Item `i` is in `prefix[i]`, or in `items` past the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArrayShape {
    /// Nodes of the first items.
    pub prefix: Vec<NodeId>,
    /// Node of all further items; an empty node forbids them.
    pub items: NodeId,
    /// Least number of items.
    pub min_items: u32,
    /// Greatest number, if bounded (already cut to the prefix where `items` is empty).
    pub max_items: Option<u32>,
    /// `contains` obligations.
    pub contains: Vec<Contains>,
    /// No two items may be equal as JSON values (1 equals 1.0; objects regardless of order).
    pub unique: bool,
    /// Where items are unique and each is one of a few values: the node of each value. Without prefix and `contains`.
    pub values: Vec<NodeId>,
}

/// Between `min` and `max` items are in `node`; an item not counted is in `other` (the complement).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contains {
    /// What a counted item is.
    pub node: NodeId,
    /// What an uncounted item is; the same as "any value" where no upper bound needs the complement.
    pub other: NodeId,
    /// Least count.
    pub min: u32,
    /// Greatest count, if bounded.
    pub max: Option<u32>,
}

/// An object, in the form that runs. Keys are unique (as decoded strings) whatever the shape says. Names are sorted by
/// their bytes; a member is known by the index of its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectShape {
    /// The keys, decoded, that have a say of their own.
    pub names: Vec<Box<[u8]>>,
    /// By name: its value; none where the key may not come.
    pub nodes: Vec<Option<NodeId>>,
    /// By name: it must be there.
    pub required: Vec<bool>,
    /// By name: its place in the schema's order, in which keys that may not come are last.
    pub position: Vec<u32>,
    /// The name at each place of the schema's order.
    pub order: Vec<u32>,
    /// Required members at or after each place of the schema's order, and past its end.
    pub required_from: Vec<u32>,
    /// Further members: key languages (of decoded keys), disjoint from each other and from all
    /// names, with the node of the value. Empty: no further member.
    pub others: Vec<(LangId, NodeId)>,
    /// By entry of `others`: the obligations that a member of it meets, as bits. Where there are any, an entry may
    /// overlap those before it: a key may be read either way.
    pub serves: Vec<u32>,
    /// All obligations, as bits; each must be met by some further member.
    pub obligations: u32,
    /// The value of every key that is none of `names`. `others` is then empty: this is the common case, told apart
    /// because it needs no automaton.
    pub rest: Option<NodeId>,
    /// Least number of members in all.
    pub min_members: u32,
    /// Greatest number, if bounded.
    pub max_members: Option<u32>,
    /// `(a, b)`: when member `a` is there, member `b` must be.
    pub implies: Vec<(u32, u32)>,
}

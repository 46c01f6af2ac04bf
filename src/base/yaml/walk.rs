//! A walk over the nodes of a document: it builds nothing, checks what a typed
//! read lets pass, and can note where everything stands.
//!
//! # How a walk learns positions
//!
//! `serde_yaml` tells no visitor where it is, but it stamps every *error* that a
//! visitor returns with the mark of the node. The walk therefore fails on each
//! scalar on purpose, reads the mark off the error and goes on: a scalar's event
//! is consumed before its visitor is asked. Mappings and sequences cannot be
//! failed that way; they take the place of their key, or of their first child.
//! So a position is always one that the parser itself reported.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::base::problems::{Position, Problem};

/// Mappings and sequences inside one another.
const DEPTH_MAX: u32 = 32;

/// Scalars, mappings and sequences, counted once for each alias that leads to
/// them. Ten thousand policies, more than fit into the size, have fewer.
const NODES_MAX: u32 = 200_000;

/// The path of `key` inside `parent`, as `serde_yaml` writes paths.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Where a node stands, and the key that leads to it.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: Option<Position>,
    value: Option<Position>,
}

/// Where each path of a document stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_path: HashMap<String, Place>,
    /// Duplicate and merge keys.
    pub(super) suspects: Vec<(Option<Position>, Problem)>,
}

impl Places {
    /// The place of the value at `path`, or of the nearest part around it.
    pub(super) fn position(&self, path: &str) -> Option<Position> {
        self.nearest(path, |place| place.value.or(place.key))
    }

    /// The place of the key at the end of `path`.
    pub(super) fn key_position(&self, path: &str) -> Option<Position> {
        self.nearest(path, |place| place.key.or(place.value))
    }

    fn nearest(&self, path: &str, of: impl Fn(&Place) -> Option<Position>) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.by_path.get(path).and_then(&of) {
                return Some(position);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Whether a walk notes positions: it costs an error for each scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    Skip,
    Note,
}

/// One pass over the nodes of a document.
pub(super) struct Walk {
    positions: Positions,
    /// Filled only if positions are noted.
    pub(super) places: Places,
    /// Duplicate and merge keys, counted in any case.
    pub(super) suspect_count: u32,
    nodes: u32,
    depth: u32,
    /// Nothing but blanks and comments.
    pub(super) empty: bool,
    /// Set by a scalar's visitor when it fails only to learn where it is.
    probed: bool,
}

/// The message of an error that exists to be stamped with a position.
const PROBE: &str = "here";

impl Walk {
    pub(super) fn new(positions: Positions) -> Walk {
        Walk {
            positions,
            places: Places::default(),
            suspect_count: 0,
            nodes: 0,
            depth: 0,
            empty: false,
            probed: false,
        }
    }

    pub(super) fn run(&mut self, text: &str) -> Result<(), serde_yaml::Error> {
        let root = Node { walk: self, path: "" };
        root.deserialize(serde_yaml::Deserializer::from_str(text))?;
        self.empty = self.nodes <= 1 && text_is_blank(text);
        Ok(())
    }

    /// The path of a child, which nobody reads unless positions are noted.
    fn path(&self, path: impl FnOnce() -> String) -> String {
        match self.positions {
            Positions::Skip => String::new(),
            Positions::Note => path(),
        }
    }

    /// Counts a node.
    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(E::custom(format!("holds more than {NODES_MAX} values, aliases counted")));
        }
        Ok(())
    }

    fn deeper<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(E::custom(format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }

    /// Ends a scalar: well, or with an error that carries its position.
    fn scalar<E: Error>(&mut self) -> Result<At, E> {
        self.enter()?;
        match self.positions {
            Positions::Skip => Ok(At::Scalar(None)),
            Positions::Note => {
                self.probed = true;
                Err(E::custom(PROBE))
            }
        }
    }

    /// Turns the error of a probe into its position; hands on a real one.
    fn settle<E: Error>(&mut self, error: E) -> Result<Option<Position>, E> {
        if std::mem::take(&mut self.probed) { Ok(stamped(&error.to_string())) } else { Err(error) }
    }

    fn suspect(&mut self, position: Option<Position>, problem: Problem) {
        self.suspect_count += 1;
        if self.positions == Positions::Note {
            self.places.suspects.push((position, problem));
        }
    }
}

/// Whether a document without nodes was an empty one, and not a lone scalar.
fn text_is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    })
}

/// The position in `path: here at line 3 column 5`. The first character of a
/// document is stamped with nothing.
fn stamped(text: &str) -> Option<Position> {
    if text.ends_with(PROBE) {
        return Some(Position { line: 1, column: 1 });
    }
    let (_, mark) = text.rsplit_once(" at line ")?;
    let (line, column) = mark.split_once(" column ")?;
    Some(Position { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// Where a walked node stands, if positions are noted.
#[derive(Clone, Copy)]
enum At {
    /// At its first character.
    Scalar(Option<Position>),
    /// A mapping or sequence; its first child stands here.
    Around(Option<Position>),
}

/// A node about to be walked.
struct Node<'w> {
    walk: &'w mut Walk,
    path: &'w str,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = At;

    fn deserialize<D: Deserializer<'de>>(self, node: D) -> Result<At, D::Error> {
        let walk = self.walk;
        match node.deserialize_any(Node { walk: &mut *walk, path: self.path }) {
            Err(error) => walk.settle(error).map(At::Scalar),
            at => at,
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = At;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<At, A::Error> {
        self.walk.enter()?;
        self.walk.deeper()?;
        let mut first = None;
        let mut seen = HashSet::new();
        loop {
            let mut text = None;
            let key = map.next_key_seed(Key { walk: self.walk, text: &mut text })?;
            let (Some(key_position), Some(text)) = (key, text) else { break };
            first = first.or(key_position);
            let path = self.walk.path(|| join(self.path, &text));
            if text == "<<" {
                let message = "merge keys are not supported; write the keys out";
                self.walk.suspect(key_position, Problem::new(self.path, message));
            }
            if seen.contains(&text) {
                let message = format!("the key `{text}` is written twice");
                self.walk.suspect(key_position, Problem::new(self.path, message));
            }
            let is_new = seen.insert(text);
            let value = map.next_value_seed(Node { walk: self.walk, path: &path })?;
            if is_new && self.walk.positions == Positions::Note {
                let value = match value {
                    At::Scalar(position) => position,
                    At::Around(_) => key_position,
                };
                let place = Place { key: key_position, value };
                self.walk.places.by_path.insert(path, place);
            }
        }
        self.walk.depth -= 1;
        Ok(At::Around(first))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<At, A::Error> {
        self.walk.enter()?;
        self.walk.deeper()?;
        let mut first = None;
        for index in 0.. {
            let path = self.walk.path(|| format!("{}[{index}]", self.path));
            let item = items.next_element_seed(Node { walk: self.walk, path: &path })?;
            let Some(At::Scalar(value) | At::Around(value)) = item else { break };
            first = first.or(value);
            if self.walk.positions == Positions::Note {
                self.walk.places.by_path.insert(path, Place { key: None, value });
            }
        }
        self.walk.depth -= 1;
        Ok(At::Around(first))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_unit<E: Error>(self) -> Result<At, E> {
        self.walk.scalar()
    }

    fn visit_none<E: Error>(self) -> Result<At, E> {
        self.walk.scalar()
    }
}

/// A key about to be walked; its text lands in `text`.
struct Key<'w> {
    walk: &'w mut Walk,
    text: &'w mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<Position>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<Position>, D::Error> {
        let Key { walk, text } = self;
        match key.deserialize_str(Key { walk: &mut *walk, text }) {
            Err(error) => walk.settle(error),
            Ok(()) => Ok(None),
        }
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of one word")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        *self.text = Some(text.to_owned());
        self.walk.scalar().map(|_at| ())
    }
}

//! A collection in its slot, to be changed element by element.
//!
//! [`CollectionMut`] offers every change of a collection, and notes of each how it
//! is undone while a transaction is open. What is noted is as large as the change,
//! with one exception: a small collection that takes on another form is kept
//! whole, so that a rollback gives it back as it was, order included.
//!
//! Reading needs no such care: a `CollectionMut` is its collection, read only.

use std::ops::{Deref, Range};

use super::journal::Journal;
use super::{SlotId, Slots};
use crate::keyspace::hash::Hash;
use crate::keyspace::list::List;
use crate::keyspace::set::Set;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::value::Value;

/// See the module's header.
#[derive(Debug)]
pub(in crate::keyspace) struct CollectionMut<'a, T> {
    id: SlotId,
    collection: &'a mut T,
    journal: &'a mut Journal,
}

/// A sorted set, to be changed.
pub(in crate::keyspace) type SortedSetMut<'a> = CollectionMut<'a, SortedSet>;

impl<T> Deref for CollectionMut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.collection
    }
}

/// The inverse of one change within a collection. Its texts, of these lengths, end
/// the journal's stack of texts: of two, the field is the last.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// A member joined a sorted set: take it out.
    ScoreJoined { len: u32 },
    /// A member left a sorted set: add it.
    ScoreLeft { len: u32, score: f64 },
    /// A member had another score.
    Rescored { len: u32, was: f64 },
    /// A field joined a hash: take it out.
    FieldJoined { len: u32 },
    /// A field had another value.
    FieldSet { len: u32, value_len: u32 },
    /// A field left a hash: put it back to its place.
    FieldLeft { len: u32, value_len: u32, place: u32 },
    /// A member joined a set: take it out.
    MemberJoined { len: u32 },
    /// A member left a set: put it back to its place.
    MemberLeft { len: u32, place: u32 },
    /// An element joined a list: take it out.
    ElementJoined { index: usize },
    /// An element left a list: put it back.
    ElementLeft { len: u32, index: usize },
    /// An element of a list was another.
    ElementReplaced { len: u32, index: usize },
}

/// A kind of value that is changed element by element.
pub(in crate::keyspace) trait Collection: Sized {
    /// The collection in a value of this kind.
    fn of(value: &mut Value) -> Option<&mut Self>;
}

impl Collection for SortedSet {
    fn of(value: &mut Value) -> Option<&mut SortedSet> {
        if let Value::SortedSet(set) = value { Some(set) } else { None }
    }
}

impl Collection for Hash {
    fn of(value: &mut Value) -> Option<&mut Hash> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }
}

impl Collection for Set {
    fn of(value: &mut Value) -> Option<&mut Set> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }
}

impl Collection for List {
    fn of(value: &mut Value) -> Option<&mut List> {
        if let Value::List(list) = value { Some(list) } else { None }
    }
}

impl Slots {
    /// The collection of a slot, to be changed. `None` if it holds another kind.
    pub(in crate::keyspace) fn collection<T: Collection>(
        &mut self,
        id: SlotId,
    ) -> Option<CollectionMut<'_, T>> {
        self.touch(id);
        let collection = T::of(self.slab.slot_mut(id).value.as_mut()?)?;
        Some(CollectionMut { id, collection, journal: &mut self.journal })
    }

    /// The sorted set of a slot, to be changed. `None` if it holds another kind.
    pub(in crate::keyspace) fn sorted_set(&mut self, id: SlotId) -> Option<SortedSetMut<'_>> {
        self.collection(id)
    }
}

impl CollectionMut<'_, SortedSet> {
    /// Adds a member that is not there.
    pub(in crate::keyspace) fn add(&mut self, member: &[u8], score: f64) {
        self.collection.add(member, score);
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::ScoreJoined { len });
        }
    }

    /// Changes the score of a member that is there with the score `current`.
    pub(in crate::keyspace) fn rescore(&mut self, member: &[u8], current: f64, score: f64) {
        self.collection.rescore(member, score);
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::Rescored { len, was: current });
        }
    }

    /// Takes a member out; true if it was there.
    pub(in crate::keyspace) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.collection.remove(member) else { return false };
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::ScoreLeft { len, score });
        }
        true
    }

    /// Takes out the members of these ranks.
    pub(in crate::keyspace) fn remove_range(&mut self, ranks: Range<usize>) {
        let (id, journal) = (self.id, &mut *self.journal);
        let is_open = journal.is_open();
        self.collection.remove_range(ranks, |member, score| {
            if is_open {
                journal.note_text(id, member, |len| Change::ScoreLeft { len, score });
            }
        });
    }
}

impl CollectionMut<'_, Hash> {
    /// Sets the value of a field; true if the field is new.
    pub(in crate::keyspace) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        if !journal.is_open() {
            return self.collection.insert(field, value);
        }
        if self.collection.outgrows(field, value) {
            journal.note_replaced(id, Value::Hash(self.collection.clone()));
            return self.collection.insert(field, value);
        }
        let is_new = self.collection.set(field, value, |was| {
            let value_len = journal.push_text(was);
            journal.note_text(id, field, |len| Change::FieldSet { len, value_len });
        });
        if is_new {
            journal.note_text(id, field, |len| Change::FieldJoined { len });
        }
        is_new
    }

    /// Takes a field out; true if it was there.
    pub(in crate::keyspace) fn remove(&mut self, field: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        self.collection.remove(field, |was, place| {
            if journal.is_open() {
                let value_len = journal.push_text(was);
                journal.note_text(id, field, |len| Change::FieldLeft { len, value_len, place });
            }
        })
    }
}

impl CollectionMut<'_, Set> {
    /// Adds a member; false if it is there already.
    pub(in crate::keyspace) fn add(&mut self, member: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        if journal.is_open() && !self.collection.contains(member) {
            if self.collection.outgrows(member) {
                journal.note_replaced(id, Value::Set(self.collection.clone()));
            } else {
                journal.note_text(id, member, |len| Change::MemberJoined { len });
            }
        }
        self.collection.add(member)
    }

    /// Takes a member out; true if it was there.
    pub(in crate::keyspace) fn remove(&mut self, member: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        self.collection.remove(member, |place| {
            if journal.is_open() {
                journal.note_text(id, member, |len| Change::MemberLeft { len, place });
            }
        })
    }
}

impl CollectionMut<'_, List> {
    /// Puts an element before the one of this index, or at the end.
    pub(in crate::keyspace) fn insert(&mut self, index: usize, text: &[u8]) {
        self.collection.insert(index, text);
        self.journal.note_within(self.id, Change::ElementJoined { index });
    }

    /// Puts another element into the place of one.
    pub(in crate::keyspace) fn replace(&mut self, index: usize, text: &[u8]) {
        let (id, journal) = (self.id, &mut *self.journal);
        self.collection.replace(index, text, |was| {
            if journal.is_open() {
                journal.note_text(id, was, |len| Change::ElementReplaced { len, index });
            }
        });
    }

    /// Takes elements out.
    pub(in crate::keyspace) fn remove(&mut self, range: Range<usize>) {
        let (id, index, journal) = (self.id, range.start, &mut *self.journal);
        let is_open = journal.is_open();
        self.collection.remove(range, |was| {
            if is_open {
                journal.note_text(id, was, |len| Change::ElementLeft { len, index });
            }
        });
    }
}

impl Slots {
    /// Undoes a change within a collection. No transaction is open meanwhile.
    pub(super) fn undo_within(&mut self, id: SlotId, change: Change) {
        match change {
            Change::ScoreJoined { len } => {
                let member = self.journal.pop_text(len);
                self.restore(id, |set: &mut SortedSet| set.remove(&member));
            }
            Change::ScoreLeft { len, score } => {
                let member = self.journal.pop_text(len);
                self.restore(id, |set: &mut SortedSet| set.add(&member, score));
            }
            Change::Rescored { len, was } => {
                let member = self.journal.pop_text(len);
                self.restore(id, |set: &mut SortedSet| set.rescore(&member, was));
            }
            Change::FieldJoined { len } => {
                let field = self.journal.pop_text(len);
                self.restore(id, |hash: &mut Hash| hash.remove(&field, |_, _| {}));
            }
            Change::FieldSet { len, value_len } => {
                let field = self.journal.pop_text(len);
                let value = self.journal.pop_text(value_len);
                self.restore(id, |hash: &mut Hash| hash.insert(&field, &value));
            }
            Change::FieldLeft { len, value_len, place } => {
                let field = self.journal.pop_text(len);
                let value = self.journal.pop_text(value_len);
                self.restore(id, |hash: &mut Hash| hash.put_back(place, &field, &value));
            }
            Change::MemberJoined { len } => {
                let member = self.journal.pop_text(len);
                self.restore(id, |set: &mut Set| set.remove(&member, |_| {}));
            }
            Change::MemberLeft { len, place } => {
                let member = self.journal.pop_text(len);
                self.restore(id, |set: &mut Set| set.put_back(place, &member));
            }
            Change::ElementJoined { index } => {
                self.restore(id, |list: &mut List| list.remove(index..index + 1, |_| {}));
            }
            Change::ElementLeft { len, index } => {
                let text = self.journal.pop_text(len);
                self.restore(id, |list: &mut List| list.insert(index, &text));
            }
            Change::ElementReplaced { len, index } => {
                let text = self.journal.pop_text(len);
                self.restore(id, |list: &mut List| list.replace(index, &text, |_| {}));
            }
        }
    }

    fn restore<T: Collection, R>(&mut self, id: SlotId, change: impl FnOnce(&mut T) -> R) {
        let collection = self.collection(id);
        debug_assert!(collection.is_some(), "a slot holds what it held");
        if let Some(collection) = collection {
            change(collection.collection);
        }
    }
}

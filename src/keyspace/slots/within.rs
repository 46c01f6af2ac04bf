//! A value in its slot, to be changed piece by piece.
//!
//! [`ValueMut`] offers every change within a value: of a collection element by
//! element. While a transaction is open it notes of each how it is undone. What is
//! noted is as large as the change, with one exception: a small collection that
//! takes on another form is kept whole, so that a rollback gives it back as it
//! was, order included.
//!
//! Reading needs no such care: a `ValueMut` is its value, read only.

use std::ops::{Deref, Range};

use super::journal::Journal;
use super::{SlotId, Slots};
use crate::keyspace::hash::Hash;
use crate::keyspace::list::List;
use crate::keyspace::set::Set;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::string::StringValue;
use crate::keyspace::value::{Kind, Value};

/// See the module's header.
#[derive(Debug)]
pub(in crate::keyspace) struct ValueMut<'a, T> {
    id: SlotId,
    value: &'a mut T,
    journal: &'a mut Journal,
}

/// A sorted set, to be changed.
pub(in crate::keyspace) type SortedSetMut<'a> = ValueMut<'a, SortedSet>;

impl<T> Deref for ValueMut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

/// The inverse of one change within a value. Its texts, of these lengths, end
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
    /// A string was written into from `at` on, over the text; it had `was_len`
    /// bytes.
    Overwrote { at: u32, len: u32, was_len: u32 },
}

impl Slots {
    /// The value of a slot, to be changed. `None` if it holds another kind.
    pub(in crate::keyspace) fn change<T: Kind>(&mut self, id: SlotId) -> Option<ValueMut<'_, T>> {
        self.touch(id);
        let value = T::of_mut(self.slab.slot_mut(id).value.as_mut()?)?;
        Some(ValueMut { id, value, journal: &mut self.journal })
    }

    /// The sorted set of a slot, to be changed. `None` if it holds another kind.
    pub(in crate::keyspace) fn sorted_set(&mut self, id: SlotId) -> Option<SortedSetMut<'_>> {
        self.change(id)
    }

    /// Writes bytes over the string of a slot from `at` on; the string grows as
    /// needed, and a gap is filled with zeros.
    pub(in crate::keyspace) fn overwrite(&mut self, id: SlotId, at: usize, text: &[u8]) {
        self.touch(id);
        let journal = &mut self.journal;
        let Some(Value::String(string)) = &mut self.slab.slot_mut(id).value else {
            debug_assert!(false, "only a string is written into");
            return;
        };
        if journal.is_open() {
            match string.overwritten(at, text.len()) {
                Some(range) => {
                    let (at, len) = (at as u32, range.len() as u32);
                    let was_len = string.len() as u32;
                    for piece in string.pieces(range) {
                        journal.push_text(&piece);
                    }
                    journal.note_within(id, Change::Overwrote { at, len, was_len });
                }
                None => journal.note_replaced(id, Value::String(string.clone())),
            }
        }
        string.overwrite(at, text);
    }
}

impl ValueMut<'_, SortedSet> {
    /// Adds a member that is not there.
    pub(in crate::keyspace) fn add(&mut self, member: &[u8], score: f64) {
        self.value.add(member, score);
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::ScoreJoined { len });
        }
    }

    /// Changes the score of a member that is there with the score `current`.
    pub(in crate::keyspace) fn rescore(&mut self, member: &[u8], current: f64, score: f64) {
        self.value.rescore(member, score);
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::Rescored { len, was: current });
        }
    }

    /// Takes a member out; true if it was there.
    pub(in crate::keyspace) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.value.remove(member) else { return false };
        if self.journal.is_open() {
            self.journal.note_text(self.id, member, |len| Change::ScoreLeft { len, score });
        }
        true
    }

    /// Takes out the members of these ranks.
    pub(in crate::keyspace) fn remove_range(&mut self, ranks: Range<usize>) {
        let (id, journal) = (self.id, &mut *self.journal);
        let is_open = journal.is_open();
        self.value.remove_range(ranks, |member, score| {
            if is_open {
                journal.note_text(id, member, |len| Change::ScoreLeft { len, score });
            }
        });
    }
}

impl ValueMut<'_, Hash> {
    /// Sets the value of a field; true if the field is new.
    pub(in crate::keyspace) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        if !journal.is_open() {
            return self.value.insert(field, value);
        }
        if self.value.outgrows(field, value) {
            journal.note_replaced(id, Value::Hash(self.value.clone()));
            return self.value.insert(field, value);
        }
        let is_new = self.value.set(field, value, |was| {
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
        self.value.remove(field, |was, place| {
            if journal.is_open() {
                let value_len = journal.push_text(was);
                journal.note_text(id, field, |len| Change::FieldLeft { len, value_len, place });
            }
        })
    }
}

impl ValueMut<'_, Set> {
    /// Adds a member; false if it is there already.
    pub(in crate::keyspace) fn add(&mut self, member: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        if !journal.is_open() {
            return self.value.add(member);
        }
        if self.value.outgrows(member) && !self.value.contains(member) {
            journal.note_replaced(id, Value::Set(self.value.clone()));
            return self.value.add(member);
        }
        let is_new = self.value.add(member);
        if is_new {
            journal.note_text(id, member, |len| Change::MemberJoined { len });
        }
        is_new
    }

    /// Takes a member out; true if it was there.
    pub(in crate::keyspace) fn remove(&mut self, member: &[u8]) -> bool {
        let (id, journal) = (self.id, &mut *self.journal);
        self.value.remove(member, |place| {
            if journal.is_open() {
                journal.note_text(id, member, |len| Change::MemberLeft { len, place });
            }
        })
    }
}

impl ValueMut<'_, List> {
    /// Puts an element before the one of this index, or at the end.
    pub(in crate::keyspace) fn insert(&mut self, index: usize, text: &[u8]) {
        self.value.insert(index, text);
        self.journal.note_within(self.id, Change::ElementJoined { index });
    }

    /// Puts another element into the place of one.
    pub(in crate::keyspace) fn replace(&mut self, index: usize, text: &[u8]) {
        let (id, journal) = (self.id, &mut *self.journal);
        self.value.replace(index, text, |was| {
            if journal.is_open() {
                journal.note_text(id, was, |len| Change::ElementReplaced { len, index });
            }
        });
    }

    /// Takes elements out.
    pub(in crate::keyspace) fn remove(&mut self, range: Range<usize>) {
        let (id, index, journal) = (self.id, range.start, &mut *self.journal);
        let is_open = journal.is_open();
        self.value.remove(range, |was| {
            if is_open {
                journal.note_text(id, was, |len| Change::ElementLeft { len, index });
            }
        });
    }
}

impl Slots {
    /// Undoes a change within a value. No transaction is open meanwhile.
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
            Change::Overwrote { at, len, was_len } => {
                let bytes = self.journal.pop_text(len);
                self.restore(id, |string: &mut StringValue| {
                    string.restore(at as usize, &bytes, was_len as usize);
                });
            }
        }
    }

    fn restore<T: Kind, R>(&mut self, id: SlotId, change: impl FnOnce(&mut T) -> R) {
        let held = self.change(id);
        debug_assert!(held.is_some(), "a slot holds what it held");
        if let Some(held) = held {
            change(held.value);
        }
    }
}

//! What leaves a call beside its reply: what it changed, as commands that change
//! it again, what it tells listeners, and which commands a script ran.
//!
//! Effects are encoded as they arise, so handing them to the log is one copy.
//! The wrapping of a record with two or more effects stands ready on both sides:
//!
//! ```text
//! *1 $5 MULTI | effect | effect | *1 $4 EXEC       record() with two or more
//!             | effect |                           record() with one
//! ```
//!
//! The opening is written once. The closing is moved behind each effect.

use super::arg::Arg;
use super::channels::{Channels, Ear, Messages};
use super::notices::{EventClass, Notice, Notices};
use crate::resp::encode::Writer;
use crate::resp::number::{NumberText, whole};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// The effects of one call, in order. Reused between calls.
#[derive(Clone, Debug)]
pub struct Effects {
    /// `MULTI`, the effects, `EXEC`, and then bytes left from longer calls, so that
    /// effects are written into bytes that are there.
    bytes: Vec<u8>,
    /// Where the next effect begins; `EXEC` stands there meanwhile.
    end: usize,
    count: u32,
    notices: Notices,
    messages: Messages,
    /// What scripts ran, if somebody wants to see it.
    scripted: Option<Vec<Vec<Box<[u8]>>>>,
}

/// Bytes that are kept from one call to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Commands of one script that are noted: who is shown more is behind already.
const SCRIPTED_COUNT_MAX: usize = 1 << 16;

/// A place among the effects, to go back to when a transaction is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectsMark {
    /// Where the next effect would begin.
    end: usize,
    count: u32,
    notice_count: usize,
    message_count: usize,
}

impl Default for Effects {
    fn default() -> Effects {
        Effects::new()
    }
}

impl Effects {
    /// No effects.
    pub fn new() -> Effects {
        Effects {
            bytes: [MULTI, EXEC].concat(),
            end: MULTI.len(),
            count: 0,
            notices: Notices::default(),
            messages: Messages::default(),
            scripted: None,
        }
    }

    /// Forgets the effects, and keeps the memory unless it is much.
    pub fn clear(&mut self) {
        self.bytes.truncate(KEPT_BYTES_MAX);
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.truncate(EffectsMark {
            end: MULTI.len(),
            count: 0,
            notice_count: 0,
            message_count: 0,
        });
    }

    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The present end, for [`Effects::truncate`].
    pub fn mark(&self) -> EffectsMark {
        EffectsMark {
            end: self.end,
            count: self.count,
            notice_count: self.notices.len(),
            message_count: self.messages.len(),
        }
    }

    /// Forgets what was pushed since `mark`.
    pub fn truncate(&mut self, mark: EffectsMark) {
        debug_assert!(mark.end <= self.end && mark.count <= self.count);
        (self.end, self.count) = (mark.end, mark.count);
        self.notices.truncate(mark.notice_count);
        self.messages.truncate(mark.message_count);
        self.close();
    }

    /// Forgets the effects since `mark` and keeps the notices: what happened is
    /// told, and not repeated by anyone.
    pub fn forget_since(&mut self, mark: EffectsMark) {
        debug_assert!(mark.end <= self.end && mark.count <= self.count);
        (self.end, self.count) = (mark.end, mark.count);
        self.close();
    }

    /// From here on the commands that scripts run are noted.
    pub fn want_scripted(&mut self) {
        self.scripted.get_or_insert_default();
    }

    /// The commands that scripts have run since [`Effects::want_scripted`]; none are
    /// noted from here on.
    pub fn take_scripted(&mut self) -> Vec<Vec<Box<[u8]>>> {
        self.scripted.take().unwrap_or_default()
    }

    /// Notes a command that a script runs, if somebody wants to see it.
    pub fn note_scripted(&mut self, args: &[Arg<'_>]) {
        if let Some(scripted) = &mut self.scripted
            && scripted.len() < SCRIPTED_COUNT_MAX
        {
            scripted.push(args.iter().map(|arg| (*arg.text()).into()).collect());
        }
    }

    /// From here on events of these classes are noted.
    pub fn want_notices(&mut self, classes: EventClass) {
        self.notices.want(classes);
    }

    /// From here on, until [`Effects::notices_since`], every event is noted,
    /// whether anybody listens or not.
    pub(super) fn note_everything(&mut self) -> usize {
        self.notices.note_everything()
    }

    /// Every event since [`Effects::note_everything`]; only those that somebody
    /// listens for are noted from here on.
    pub(super) fn notices_since(&mut self, mark: usize) -> impl Iterator<Item = Notice<'_>> {
        self.notices.since(mark)
    }

    /// What happened to which key, in order, of what somebody listens for.
    pub fn notices(&self) -> impl Iterator<Item = Notice<'_>> {
        self.notices.iter()
    }

    /// Everything that listeners are to be told, in order: what happened to keys,
    /// and messages to channels.
    pub(super) fn tell(&self, channels: &mut Channels) {
        let mut told = 0;
        for message in self.messages.iter() {
            let before = message.notice_count.max(told);
            self.notices.range(told..before).for_each(|notice| channels.tell_notice(notice));
            told = before;
            channels.tell(message.ear, message.channel, message.text);
        }
        self.notices.range(told..self.notices.len()).for_each(|it| channels.tell_notice(it));
    }

    pub(super) fn publish(&mut self, ear: Ear, channel: &[u8], text: &[u8]) {
        self.messages.push(self.notices.len(), ear, channel, text);
    }

    pub(super) fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.notices.push(class, event, key);
    }

    /// The record for the log: nothing, the one effect as it is, or all of them
    /// between `MULTI` and `EXEC`, to be applied whole or not at all.
    pub fn record(&self) -> &[u8] {
        match self.count {
            0 => &[],
            1 => &self.bytes[MULTI.len()..self.end],
            _ => &self.bytes[..self.end + EXEC.len()],
        }
    }

    /// Adds a command.
    pub(super) fn push(&mut self, args: &[Arg<'_>]) {
        let room: usize = args.iter().map(|arg| Writer::room(arg.len_max())).sum();
        let needed = self.end + Writer::room(0) + room + EXEC.len();
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        let mut writer = Writer::new(&mut self.bytes[self.end..]);
        writer.array_header(args.len());
        for arg in args {
            match *arg {
                Arg::Bytes(bytes) => writer.bulk(bytes),
                Arg::Number(value) => match whole(value) {
                    Some(whole) => writer.bulk(itoa::Buffer::new().format(whole).as_bytes()),
                    None => writer.bulk(&NumberText::double(value)),
                },
            }
        }
        self.end += writer.written();
        self.count += 1;
        self.close();
    }

    /// Puts `EXEC` behind the last effect.
    fn close(&mut self) {
        self.bytes[self.end..self.end + EXEC.len()].copy_from_slice(EXEC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(effects: &Effects) -> String {
        String::from_utf8(effects.record().to_vec()).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn one_effect_stands_bare_and_two_are_one_transaction() {
        let mut effects = Effects::new();
        assert_eq!(effects.record(), b"");
        effects.push(&[Arg::Bytes(b"DEL"), Arg::Bytes(b"k")]);
        assert_eq!(text(&effects), "*2 $3 DEL $1 k ");
        let mark = effects.mark();
        effects.push(&[Arg::Bytes(b"ZADD"), Arg::Bytes(b"k"), Arg::Number(0.5), Arg::Number(7.0)]);
        assert_eq!(
            text(&effects),
            "*1 $5 MULTI *2 $3 DEL $1 k *4 $4 ZADD $1 k $3 0.5 $1 7 *1 $4 EXEC ",
        );
        effects.truncate(mark);
        assert_eq!((effects.len(), text(&effects)), (1, "*2 $3 DEL $1 k ".to_owned()));
        effects.clear();
        assert!(effects.is_empty() && effects.record().is_empty());
    }
}

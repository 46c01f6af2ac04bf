//! What the door notes of the commands it runs: counts, what took long, and who
//! wants to be shown everything. Changed only while the keyspace is held, so
//! that it stands in the order of commands.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::clients::Client;
use super::directory::{self, Entry};
use super::settings::Settings;
use crate::base::clock::Timestamp;
use crate::keyspace::{Flags, KeyspaceStats};

/// See the module's header.
#[derive(Debug, Default)]
pub struct Records {
    /// Counts since the start, or since `CONFIG RESETSTAT`.
    pub counts: Counts,
    /// The commands that took longest of late.
    pub slowlog: Slowlog,
    /// Events that took long, by name.
    pub latency: BTreeMap<&'static str, Latency>,
    /// Connections that are shown every command.
    pub monitors: Vec<Arc<Client>>,
    /// Commands wait.
    pub pause: Option<Pause>,
    /// Commands by the second.
    pub pace: Pace,
}

/// How many commands a second there are, measured between two who ask.
#[derive(Debug, Default)]
pub struct Pace {
    since: Timestamp,
    commands: u64,
    per_second: u64,
}

impl Pace {
    /// Who asks again within this time is told the same.
    const SPAN_MIN: Duration = Duration::from_millis(100);

    /// The pace since somebody asked before, when `commands` have been run so far.
    pub fn measure(&mut self, now: Timestamp, commands: u64) -> u64 {
        let span = now.since(self.since);
        if span >= Pace::SPAN_MIN {
            let more = commands.saturating_sub(self.commands);
            self.per_second = (more as f64 / span.as_secs_f64()).round() as u64;
            (self.since, self.commands) = (now, commands);
        }
        self.per_second
    }
}

/// What `CLIENT PAUSE` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it is over.
    pub until: Timestamp,
    /// Only commands wait that may write.
    pub writes_only: bool,
}

/// Counts since the start, or since they were reset.
#[derive(Debug, Default)]
pub struct Counts {
    /// Commands run, within transactions too.
    pub commands: u64,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes of replies.
    pub output_bytes: u64,
    /// Holds of the keyspace that were longer than decisions wait.
    pub long_holds: u64,
    /// Error replies, by their first word.
    pub errors: BTreeMap<Box<str>, u64>,
    /// What the keyspace had counted when these counts began.
    pub before: KeyspaceStats,
    /// By [`Entry::index`].
    by_command: Vec<CommandCounts>,
}

/// Counts of one command.
#[derive(Clone, Debug, Default)]
pub struct CommandCounts {
    /// How often it was run.
    pub calls: u64,
    /// How long that took, in all.
    pub usec: u64,
    /// How often it was refused before it was run.
    pub rejected: u64,
    /// How often it answered with an error.
    pub failed: u64,
    /// How often it took up to 1, 2, 4, … microseconds.
    pub histogram: [u64; 32],
}

/// First words of errors that are counted apart: a script may invent any.
const ERROR_KINDS_MAX: usize = 128;

impl Counts {
    /// The counts of a command.
    pub fn of(&mut self, entry: &Entry) -> &mut CommandCounts {
        if self.by_command.len() <= entry.index {
            self.by_command.resize_with(entry.index + 1, CommandCounts::default);
        }
        &mut self.by_command[entry.index]
    }

    /// Every command that was run or refused, with its counts.
    pub fn commands(&self) -> impl Iterator<Item = (&'static Entry, &CommandCounts)> {
        directory::all().filter_map(|entry| {
            let counts = self.by_command.get(entry.index)?;
            (counts.calls + counts.rejected > 0).then_some((entry, counts))
        })
    }

    /// Notes an error reply.
    pub fn error(&mut self, line: &[u8]) {
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let word = String::from_utf8_lossy(word);
        if let Some(count) = self.errors.get_mut(&*word) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(word.into(), 1);
        }
    }
}

impl CommandCounts {
    fn ran(&mut self, took: Duration, failed: bool) {
        let usec = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls += 1;
        self.usec = self.usec.saturating_add(usec);
        self.failed += u64::from(failed);
        let place = usec.max(1).next_power_of_two().trailing_zeros() as usize;
        self.histogram[place.min(31)] += 1;
    }
}

/// The commands that took longest of late, the latest first.
#[derive(Debug, Default)]
pub struct Slowlog {
    next_id: u64,
    /// The latest first.
    pub entries: VecDeque<SlowCommand>,
}

/// A command that took long.
#[derive(Debug)]
pub struct SlowCommand {
    /// Its number.
    pub id: u64,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// Who sent it.
    pub peer: String,
    /// The name of the connection.
    pub client_name: String,
}

/// Arguments that an entry keeps, and bytes of each.
const SLOW_ARGS_MAX: usize = 32;
const SLOW_ARG_BYTES_MAX: usize = 128;

impl Slowlog {
    fn add(&mut self, ran: &Ran<'_>, len_max: u64) {
        let entry = SlowCommand {
            id: self.next_id,
            at: ran.at,
            took: ran.took,
            args: shorten(ran.args),
            peer: ran.client.peer.to_string(),
            client_name: ran.client.shown().name.to_string(),
        };
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(usize::try_from(len_max).unwrap_or(usize::MAX));
    }
}

fn shorten(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if args.len() > SLOW_ARGS_MAX { SLOW_ARGS_MAX - 1 } else { args.len() };
    let mut shortened: Vec<Vec<u8>> = args[..kept]
        .iter()
        .map(|arg| match arg.get(..SLOW_ARG_BYTES_MAX) {
            Some(begin) if arg.len() > SLOW_ARG_BYTES_MAX => {
                let more = arg.len() - SLOW_ARG_BYTES_MAX;
                [begin, format!("... ({more} more bytes)").as_bytes()].concat()
            }
            _ => arg.to_vec(),
        })
        .collect();
    if kept < args.len() {
        shortened.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    shortened
}

/// What is known of one event that took long.
#[derive(Debug, Default)]
pub struct Latency {
    /// When, in seconds, and how many milliseconds; the latest last.
    pub samples: VecDeque<(u64, u64)>,
    /// The most milliseconds ever.
    pub max_ms: u64,
}

/// Samples that are kept of an event.
const LATENCY_SAMPLES_MAX: usize = 160;

impl Latency {
    fn add(&mut self, second: u64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        match self.samples.back_mut() {
            // Of one second, the worst is kept.
            Some((at, worst)) if *at == second => *worst = (*worst).max(ms),
            _ => self.samples.push_back((second, ms)),
        }
        if self.samples.len() > LATENCY_SAMPLES_MAX {
            self.samples.pop_front();
        }
    }
}

/// A command that was run.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// Which.
    pub entry: &'static Entry,
    /// With which arguments.
    pub args: &'a [&'a [u8]],
    /// For whom.
    pub client: &'a Client,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Its reply, if that is an error.
    pub error: Option<&'a [u8]>,
}

impl Records {
    /// Notes a command that was run.
    pub fn ran(&mut self, ran: &Ran<'_>, settings: &Settings) {
        self.counts.commands += 1;
        self.counts.of(ran.entry).ran(ran.took, ran.error.is_some());
        if let Some(error) = ran.error {
            self.counts.error(error);
        }
        let flags = ran.entry.command.flags;
        if let Ok(threshold) = u64::try_from(settings.slowlog_threshold_us)
            && ran.took.as_micros() >= u128::from(threshold)
            && !flags.contains(Flags::SKIP_SLOWLOG)
        {
            self.slowlog.add(ran, settings.slowlog_len_max);
        }
        let ms = u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX);
        if settings.latency_threshold_ms > 0 && ms >= settings.latency_threshold_ms {
            let event = if flags.contains(Flags::FAST) { "fast-command" } else { "command" };
            self.latency.entry(event).or_default().add(ran.at.seconds(), ms);
        }
    }

    /// Shows a command to those who want to see everything.
    pub fn show(&self, at: Timestamp, sender: &dyn Display, args: &[impl AsRef<[u8]>]) {
        use std::fmt::Write as _;
        let mut line = format!("+{}.{:06} [0 {sender}]", at.seconds(), at.micros() % 1_000_000);
        for arg in args {
            let _ = write!(line, " \"{}\"", Quoted(arg.as_ref()));
        }
        line.push_str("\r\n");
        for monitor in &self.monitors {
            monitor.listener.mailbox.post(line.as_bytes());
        }
    }
}

/// Bytes as Redis shows them between double quotes.
struct Quoted<'a>(&'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'"' => f.write_str("\\\""),
            b'\\' => f.write_str("\\\\"),
            b'\n' => f.write_str("\\n"),
            b'\r' => f.write_str("\\r"),
            b'\t' => f.write_str("\\t"),
            0x07 => f.write_str("\\a"),
            0x08 => f.write_str("\\b"),
            b' '..=b'~' => write!(f, "{}", char::from(*byte)),
            other => write!(f, "\\x{other:02x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_noted_in_short() {
        let long = vec![b'x'; 200];
        let args: Vec<&[u8]> = std::iter::repeat_n(long.as_slice(), 40).collect();
        let shortened = shorten(&args);
        assert_eq!(shortened.len(), 32);
        assert!(shortened[0].ends_with(b"xx... (72 more bytes)"));
        assert_eq!(shortened[31], b"... (9 more arguments)");
    }

    #[test]
    fn of_one_second_the_worst_is_kept() {
        let mut latency = Latency::default();
        for (second, ms) in [(1, 5), (1, 9), (1, 3), (2, 4)] {
            latency.add(second, ms);
        }
        assert_eq!((Vec::from(latency.samples), latency.max_ms), (vec![(1, 9), (2, 4)], 9));
    }

    #[test]
    fn arguments_are_shown_as_redis_quotes_them() {
        assert_eq!(Quoted(b"a \"\\\n\x07\x00\xff").to_string(), "a \\\"\\\\\\n\\a\\x00\\xff");
    }

    #[test]
    fn durations_fall_into_powers_of_two() {
        let mut counts = CommandCounts::default();
        for usec in [0, 1, 2, 3, 4, 5, 1_000] {
            counts.ran(Duration::from_micros(usec), false);
        }
        assert_eq!(counts.histogram[..4], [2, 1, 2, 1]);
        assert_eq!(counts.histogram[10], 1);
    }
}

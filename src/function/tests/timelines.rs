//! The timelines that a redis-server is shown too: `tests/timelines/limiter.txt`, whose
//! head says how they are written, and `tests/peers/test_timelines.py`.

use std::collections::HashMap;

use super::limiter::{Outcome, outcome};
use super::*;

const RESERVATIONS: &str = "reservations";

/// A limit as a timeline writes it: algorithm, quota, window in ms, option, group.
type Written = [String; 5];

/// `key: algorithm quota per ms [option X] [group G]`.
fn read_limit(text: &str) -> (String, Written) {
    let (key, rest) = text.split_once(": ").unwrap();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let named = |name: &str| {
        let at = words.iter().position(|it| *it == name)?;
        Some(words[at + 1].to_owned())
    };
    let default = if words[0] == "token_bucket" { words[1] } else { "-" };
    let option = named("option").unwrap_or_else(|| default.to_owned());
    let group = named("group").unwrap_or_else(|| "0".to_owned());
    (key.to_owned(), [words[0].into(), words[1].into(), words[3].into(), option, group])
}

/// A word `key*cost#lease@charged` of a line.
fn read_item(word: &str) -> (&str, &str, &str, f64) {
    let (word, charged) = word.split_once('@').unwrap_or((word, "0"));
    let (word, lease) = word.split_once('#').unwrap_or((word, ""));
    let (key, cost) = word.split_once('*').unwrap_or((word, "1"));
    (key, cost, lease, charged.parse().unwrap())
}

fn at_ms(ms: f64) -> Timestamp {
    Timestamp::from_micros(START.micros() + (ms * 1000.0).round() as u64)
}

/// What `outcome` says, in the words of a timeline.
pub(super) fn told(it: Outcome) -> String {
    match it.admitted {
        true => format!("{} left until {}", it.remaining, it.reset_after_ms),
        false => format!(
            "deny {} left until {} retry {}",
            it.remaining, it.reset_after_ms, it.retry_after_ms
        ),
    }
}

/// One timeline while it is played.
struct Player {
    world: World,
    limits: HashMap<String, Written>,
    /// Reservations by the names that the timeline gives them.
    reservations: HashMap<String, String>,
}

impl Player {
    /// What one line asks, answered.
    fn answer(&mut self, line: &str) -> String {
        let (at, asked) = line.split_once(' ').unwrap();
        self.world.now = at_ms(at.parse().unwrap());
        let (verb, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        match verb {
            "edit" => {
                self.limits.extend([read_limit(rest)]);
                "edited".to_owned()
            }
            "fcall" => {
                let (named, args) = rest.split_once(" / ").unwrap_or((rest, ""));
                let (function, keys) = named.split_once(' ').unwrap();
                self.fcall(function, &words(keys), &words(args));
                show(self.world.reply.view())
            }
            "reserve" => self.reserve(rest),
            "settle" => self.settle(rest),
            "abandoned" => self.abandoned(rest),
            "penalize" | "pardon" => {
                let (key, ban, ban_max, _) = read_item(rest);
                let [_, quota, window_ms, ..] = self.limits[key].clone();
                let args = [&quota, &window_ms, ban, ban_max];
                let args = if verb == "penalize" { &args[..] } else { &[] };
                self.fcall(verb, &[key, "bans"], args);
                show(self.world.reply.view())
            }
            "peek" | "adjust" | "release" | "reset" => {
                let (keys, args) = self.items(verb, rest);
                self.fcall(verb, &keys, &texts(&args));
                self.outcomes()
            }
            _ => {
                let (keys, args) = self.items("decide", asked);
                self.fcall("decide", &keys, &texts(&args));
                self.outcomes()
            }
        }
    }

    /// Keys and arguments of a Function, as the words of a line have them.
    fn items<'l>(&self, verb: &str, rest: &'l str) -> (Vec<&'l str>, Vec<String>) {
        let (mut keys, mut args) = (Vec::new(), Vec::new());
        for (key, cost, lease, charged) in rest.split_whitespace().map(read_item) {
            keys.push(key);
            let [algorithm, quota, window_ms, option, group] = self.limits[key].clone();
            let option = if lease.is_empty() { option } else { lease.to_owned() };
            let is_adjusted = matches!(verb, "adjust" | "settle");
            let last = if is_adjusted { at_ms(charged).micros().to_string() } else { group };
            match verb {
                "release" => args.push(lease.to_owned()),
                "reset" => {}
                _ => args.extend([algorithm, quota, window_ms, cost.to_owned(), option, last]),
            }
        }
        (keys, args)
    }

    /// `NAME ENDS_AFTER_MS items`: a limit's estimate is its key, one with a lease has none.
    fn reserve(&mut self, rest: &str) -> String {
        let [name, ends_after_ms, rest] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{rest}")
        };
        let (mut keys, mut args) = self.items("decide", rest);
        args.extend([ends_after_ms.to_owned(), name.to_owned()]);
        let estimate = |word: &str| match read_item(word) {
            (key, _, "", _) => key.to_owned(),
            _ => String::new(),
        };
        args.extend(rest.split_whitespace().map(estimate));
        keys.push(RESERVATIONS);
        self.fcall("decide_reserving", &keys, &texts(&args));
        let View::Array(items) = self.world.reply.view() else { panic!("{:?}", self.world.reply) };
        let Some(View::Bulk(text)) = items.last() else { return self.outcomes() };
        let text = String::from_utf8(text.to_vec()).unwrap();
        let reserved: Vec<&str> = text.lines().skip(2).collect();
        let told = format!("{}; reserved {}", self.outcomes(), reserved.join(" "));
        self.reservations.insert(name.to_owned(), text);
        told
    }

    /// `NAME items`, as those of `adjust`.
    fn settle(&mut self, rest: &str) -> String {
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (mut keys, mut args) = self.items("settle", rest);
        keys.insert(0, RESERVATIONS);
        args.insert(0, self.reservations[name].clone());
        self.fcall("settle", &keys, &texts(&args));
        show(self.world.reply.view())
    }

    /// `COUNT`: the names of those that are.
    fn abandoned(&mut self, rest: &str) -> String {
        self.fcall("abandoned", &[RESERVATIONS], &[rest]);
        let View::Array(items) = self.world.reply.view() else { panic!("{:?}", self.world.reply) };
        let name = |item| match item {
            View::Bulk(text) => String::from_utf8_lossy(text).lines().next().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        let names: Vec<String> = items.map(name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    }

    fn fcall(&mut self, function: &str, keys: &[&str], args: &[&str]) {
        self.world.try_call(&format!("limiter.{function}"), keys, args).unwrap();
    }

    /// What was answered: outcomes, or a number.
    fn outcomes(&self) -> String {
        match self.world.reply.view() {
            View::Array(items) => {
                let outcomes = items.filter(|item| matches!(item, View::Array(_)));
                outcomes.map(outcome).map(told).collect::<Vec<_>>().join(", ")
            }
            other => show(other),
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn texts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn every_timeline_happens_as_written() {
    let text = include_str!("../../../tests/timelines/limiter.txt");
    let text = text.lines().map(|line| line.split("# ").next().unwrap_or("").trim());
    let text = text.filter(|line| !line.is_empty() && *line != "#").collect::<Vec<_>>().join("\n");
    let timelines: Vec<&str> = text.split("== ").skip(1).collect();
    assert!(timelines.len() > 20, "the file is not what it was");
    for timeline in timelines {
        let mut player = Player {
            world: World::with_libraries(),
            limits: HashMap::new(),
            reservations: HashMap::new(),
        };
        let mut happened = String::new();
        for line in timeline.lines().skip(1) {
            match line.split_once(" -> ") {
                None => {
                    player.limits.extend([read_limit(line)]);
                    happened.push_str(line);
                }
                Some((asked, _)) => {
                    let said = player.answer(asked);
                    happened.push_str(&format!("{asked} -> {said}"));
                }
            }
            happened.push('\n');
        }
        let written = timeline.split_once('\n').unwrap().1.trim();
        assert!(
            happened.trim() == written,
            "\n{timeline}\nwritten:\n{written}\n\nhappened:\n{happened}\n"
        );
    }
}

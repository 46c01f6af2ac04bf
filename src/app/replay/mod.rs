//! `weir replay`: what the policies would have done to yesterday's traffic.
//!
//! Access logs go through the real limiter, with the real Functions on a store
//! without a log, under a clock that stands where the log says. Nothing is
//! forwarded, nothing listens, no data is touched.
//!
//! ```text
//! source ─ line ─▶ Seen ─ facts ─▶ Limiter::check ─▶ tally ─▶ report, page
//! ```
//!
//! A log says less than a request: a policy whose key or condition is a header
//! field sees only what was logged, and a cost that the response tells is known only as
//! far as its status tells it. A request is under way for as long as the log says, from
//! the moment of its line; where it does not say, it ends before the next begins, and the
//! report says so. Servers log a request when it ends: a long one is found under way later
//! than it was. Lines that lie a little back in time are asked at the moment of the line
//! before.

mod json;
mod line;
mod page;
mod quota;
mod report;
mod source;
mod tally;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use prometheus::Registry;
use tokio::runtime;

use crate::base::clock::{Clock, Timestamp};
use crate::limiter::{self, Dues, Limiter, Payments, Scratch, Verdict};
use crate::policy::{PolicySet, RequestFacts, host, path};
use crate::store::{self, Embedded, Library, Store};

use super::{Error, Written};
use line::{NotUnderstood, Seen};
use source::Lines;
use tally::Tally;

/// What to replay, and how to tell.
#[derive(Clone, Debug)]
pub struct Options {
    /// Access logs, oldest first; `-` is standard input.
    pub logs: Vec<PathBuf>,
    /// Where to write the page, if one is wanted.
    pub html: Option<PathBuf>,
    /// How many keys to name for each limit.
    pub top: usize,
}

/// A log cannot be read, or the page not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Lines that are no request.
#[derive(Debug, Default)]
struct Skipped {
    count: u64,
    /// The first of them: where it stands, and why.
    first: Option<(String, NotUnderstood)>,
    /// Requests whose target has no single meaning: the proxy answers 400.
    bad_paths: u64,
    /// Lines that lay back in time by over a second.
    out_of_order: u64,
}

/// A log may lie back in time by this much without being told.
const ORDER_TOLERANCE: Duration = Duration::from_secs(1);

/// Replays access logs under the policies that `config` names, and returns what
/// there is to tell.
///
/// # Errors
/// A file that people write has something wrong with it, or a log cannot be read.
pub fn replay(config: &Path, options: &Options) -> Result<String, Error> {
    let written = Written::read(config)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_time().build().map_err(Error::Runtime)?;
    let mut replay = None;
    let mut skipped = Skipped::default();
    runtime.block_on(async {
        let mut policies = Some(written.policies);
        for path in &options.logs {
            let failed = |source| FileError { what: "read", path: path.clone(), source };
            let mut lines = Lines::open(path).map_err(failed)?;
            let bar = bar(&lines);
            let mut number = 0_u64;
            while let Some(text) = lines.next().map_err(failed)? {
                number += 1;
                match line::read(&text) {
                    Ok(seen) => {
                        if let Some(policies) = policies.take() {
                            replay = Some(Replay::start(&written.libraries, policies, seen.at)?);
                        }
                        if let Some(replay) = &mut replay {
                            replay.ask(&seen, &mut skipped).await;
                        }
                    }
                    Err(_) if text.trim().is_empty() => {}
                    Err(why) => skipped.note(path, number, why),
                }
                if number.is_multiple_of(4_096) {
                    bar.set_position(lines.bytes_read());
                }
            }
            bar.finish_and_clear();
        }
        Ok::<(), Error>(())
    })?;
    let Some(replay) = replay else { return Ok(report::nothing(&skipped)) };
    replay.tell(options, &skipped)
}

fn bar(lines: &Lines) -> ProgressBar {
    let template = "  replaying {bar:32} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    // Draws on standard error, and nothing where that is no terminal.
    let bar = lines.bytes_total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Skipped {
    fn note(&mut self, path: &Path, number: u64, why: NotUnderstood) {
        self.count += 1;
        self.first.get_or_insert_with(|| (format!("{}:{number}", path.display()), why));
    }
}

/// A replay under way.
struct Replay {
    limiter: Limiter,
    clock: Clock,
    payments: Option<Payments>,
    tally: Tally,
    scratch: Scratch,
    /// What requests under way owe, by the moments at which they end, and a number.
    under_way: BTreeMap<(Timestamp, u64), Dues>,
}

impl Replay {
    /// A limiter whose clock stands at the first request.
    fn start(
        libraries: &[Library],
        policies: PolicySet,
        start: Timestamp,
    ) -> Result<Replay, Error> {
        let clock = Clock::manual(start);
        let registry = Registry::new();
        let metrics = store::Metrics::register(&registry)?;
        let opened = Embedded::open(libraries, None, clock.clone(), metrics, &mut |_| {})?;
        let tally = Tally::new(&policies);
        let limiter = Limiter::new(
            Store::Embedded(opened.store),
            policies,
            limiter::FailureMode::Closed,
            limiter::Metrics::register(&registry)?,
        );
        let payments = limiter.take_payments();
        let (scratch, under_way) = (Scratch::default(), BTreeMap::new());
        Ok(Replay { limiter, clock, payments, tally, scratch, under_way })
    }

    /// Asks the limiter about one request, at its moment.
    async fn ask(&mut self, seen: &Seen, skipped: &mut Skipped) {
        let now = self.clock.now();
        self.end_until(seen.at.max(now)).await;
        self.clock.advance(seen.at.since(self.clock.now()));
        if now.since(seen.at) > ORDER_TOLERANCE {
            skipped.out_of_order += 1;
        }
        let Some(client) = seen.client else { return };
        let (authority, target) = split(&seen.target);
        let written_path = target.split(['?', '#']).next().unwrap_or_default();
        let Ok(path) = path::normalise(written_path) else {
            skipped.bad_paths += 1;
            return;
        };
        let facts = RequestFacts {
            method: &seen.method,
            host: &host::normalise(authority.unwrap_or(&seen.host)),
            path: &path,
            query: target.split_once('?').map_or("", |(_, query)| query),
            client,
            headers: seen,
            body_bytes: None,
            descriptors: &[],
        };
        let decision = self.limiter.check(&facts, &mut self.scratch).await;
        let refused = decision.verdict == Verdict::Deny;
        let (now, has_duration) = (self.clock.now(), seen.duration.is_some());
        self.tally.add(now, refused, has_duration, &self.scratch);
        if let Some(mut dues) = decision.dues {
            if let Some(status) = seen.status {
                dues.head(status, &Seen::default());
            }
            let ends = now.plus(seen.duration.unwrap_or_default());
            self.under_way.insert((ends, self.tally.requests.asked), dues);
            if !has_duration {
                self.end_until(ends).await;
            }
        }
    }

    /// Ends the requests that end until then, each at its moment.
    async fn end_until(&mut self, moment: Timestamp) {
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= moment
        {
            self.clock.advance(first.key().0.since(self.clock.now()));
            drop(first.remove());
            if let Some(payments) = &mut self.payments {
                payments.pay_waiting(&self.limiter).await;
            }
        }
    }

    fn tell(self, options: &Options, skipped: &Skipped) -> Result<String, Error> {
        let live = self.limiter.live();
        let told = report::Report::new(live.policies(), &self.tally, skipped, options.top);
        if let Some(path) = &options.html {
            fs::write(path, page::page(&told)).map_err(|source| FileError {
                what: "write",
                path: path.clone(),
                source,
            })?;
        }
        Ok(told.text())
    }
}

/// Authority and path of a target in absolute form; any other has no authority.
fn split(target: &str) -> (Option<&str>, &str) {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    match rest {
        None => (None, target),
        Some(rest) => match rest.find('/') {
            Some(at) => (Some(&rest[..at]), &rest[at..]),
            None => (Some(rest), "/"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const POLICIES: &str = "
policies:
  - { name: api, match: { path: /api/** }, key: [client_ip], limits: [{ quota: 2, window: 10s }] }
  - { name: idea, mode: shadow, limits: [{ quota: 1, window: 1m }] }
";

    fn told(log: &str, html: bool) -> (String, String) {
        told_under(POLICIES, log, html)
    }

    fn told_under(policies: &str, log: &str, html: bool) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("weir.yaml"), "policies: p.yaml\n").unwrap();
        fs::write(at("p.yaml"), policies).unwrap();
        fs::write(at("access.log"), log).unwrap();
        let page = html.then(|| at("page.html"));
        let options = Options { logs: vec![at("access.log")], html: page.clone(), top: 3 };
        let text = replay(&at("weir.yaml"), &options).unwrap();
        let folder = folder.path().display().to_string();
        let page = page.map_or_else(String::new, |page| fs::read_to_string(page).unwrap());
        (text.replace(&folder, "."), page)
    }

    fn log(lines: &[(u32, &str, &str)]) -> String {
        lines.iter().fold(String::new(), |mut log, (second, client, path)| {
            let time = format!("10/Oct/2025:20:{:02}:{:02} +0000", second / 60, second % 60);
            let _ = writeln!(log, "{client} - - [{time}] \"GET {path} HTTP/1.1\" 200 5");
            log
        })
    }

    #[test]
    fn a_log_is_decided_at_its_own_moments() {
        let (told, page) = told(
            &(log(&[
                (0, "203.0.113.7", "/api/a"),
                (1, "203.0.113.7", "/api//a?b=1"),
                (2, "203.0.113.7", "/api/a"),
                (3, "203.0.113.8", "/api/a"),
                (10, "203.0.113.7", "/api/a"),
                (70, "203.0.113.7", "/other"),
            ]) + "what is this\n"),
            true,
        );
        let expected = "\
6 requests from 2025-10-10 20:00:00 UTC to 2025-10-10 20:01:10 UTC
1 would have been refused (16.7 %)
1 not understood, the first ./access.log:7: not a line of an access log

api
  api: 2 per 10s by client_ip on /api/**
  asked                     5  of 2 keys
  refused                   1  20.0 %, 1 of the keys
                            1  of 4          203.0.113.7
  most at                   1  in the 1 min from 2025-10-10 20:00:00 UTC
  quota                     2  now
                            3  would have refused at most 0.1 %
                            3  would have refused at most 1 %
                            3  would have refused at most 5 %

idea
  idea: 1 per 1m all together on every request (shadow)
  asked                     5  of 1 keys
  refused                   3  60.0 %, 1 of the keys, but is shadowed
                            3  of 5          all
  most at                   3  in the 1 min from 2025-10-10 20:00:00 UTC
  quota                     1  now
                            4  would have refused at most 0.1 %
                            4  would have refused at most 1 %
                            4  would have refused at most 5 %
";
        assert!(told == expected, "{told}");
        assert!(page.contains("<svg") && page.contains("203.0.113.7") && !page.contains("<script"));
    }

    #[test]
    fn a_response_costs_what_its_status_says_and_ends_before_the_next_request() {
        let policies = "
policies:
  - name: logins
    settle: { when_status: [401] }
    limits: [{ quota: 2, window: 1h }]
  - { name: jobs, limits: [{ quota: 1, algorithm: concurrency }] }
";
        let statuses = ["200", "401", "200", "200", "401", "200", "401"];
        let log = log(&(0..7).map(|second| (second, "203.0.113.7", "/")).collect::<Vec<_>>());
        let lines = log.lines().zip(statuses);
        let log: String = lines
            .map(|(line, status)| line.replace(" 200 ", &format!(" {status} ")) + "\n")
            .collect();
        let (told, _) = told_under(policies, &log, false);
        assert!(told.contains("\n2 would have been refused"), "{told}");
        assert!(told.contains("jobs\n") && told.contains("refused                   0"), "{told}");
    }

    #[test]
    fn requests_are_under_way_for_as_long_as_the_log_says() {
        let policies = "
policies:
  - { name: jobs, limits: [{ quota: 2, algorithm: concurrency }] }
";
        let line = |second: u32, took: &str| {
            let time = 1_760_129_700 + second;
            let client = "203.0.113.7";
            format!(
                r#"{{"ts":{time},"client":"{client}","method":"GET","target":"/","duration_ms":{took}}}"#
            ) + "\n"
        };
        let lines = [
            line(0, "4000"),
            line(1, "2000"),
            line(2, "1000"), // The first two are under way.
            line(3, "5000"), // The second has ended just now.
            line(3, "0"),
            line(2, "0"), // Asked at the moment of the line before.
            line(4, "0"),
            line(4, "0"),
        ];
        let (text, page) = told_under(policies, &lines.concat(), true);
        assert!(text.contains("\n3 would have been refused"), "{text}");
        assert!(!text.contains("without length"), "{text}");
        assert!(!text.contains("quota "), "a window would say nothing of it: {text}");
        assert!(!page.contains("does not say"), "{page}");
        // Where it does not say, nobody is in anybody's way, and that is told.
        let silent = lines.concat().replace("duration_ms", "of_no_meaning");
        let (text, page) = told_under(policies, &silent, true);
        assert!(text.contains("\n0 would have been refused"), "{text}");
        let told = "without length            8  the log does not say how long they took, so that \
                    they keep nobody out";
        assert!(text.contains(told), "{text}");
        assert!(page.contains("does not say"), "{page}");
        // Each limit tells of its own requests.
        let policies = "
policies:
  - { name: one, match: { path: /one }, limits: [{ quota: 1, algorithm: concurrency }] }
  - { name: other, match: { path: /other }, limits: [{ quota: 1, algorithm: concurrency }] }
";
        let other = silent.replacen("\"/\"", "\"/one\"", 3).replace("\"/\"", "\"/other\"");
        let (text, _) = told_under(policies, &other, false);
        let counts = text.lines().filter(|it| it.contains("without length"));
        let counts: Vec<_> = counts.filter_map(|it| it.split_whitespace().nth(2)).collect();
        assert_eq!(counts, ["3", "5"], "{text}");
    }

    #[test]
    fn a_log_without_requests_says_so() {
        let (told, _) = told("one\n\ntwo\n", false);
        let expected = "no requests\n2 not understood, the first ./access.log:1: not a line of an \
             access log\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_target_in_absolute_form_names_its_host() {
        assert_eq!(split("/x?y"), (None, "/x?y"));
        assert_eq!(split("https://a.example/x"), (Some("a.example"), "/x"));
        assert_eq!(split("http://a.example"), (Some("a.example"), "/"));
    }
}

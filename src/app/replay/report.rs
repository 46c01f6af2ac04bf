//! The report of a replay, as data and as text.

use std::fmt::Write as _;

use crate::base::clock::Timestamp;
use crate::policy::{Algorithm, Limit, Mode, Policy, PolicySet};

use super::Skipped;
use super::tally::{Count, LimitTally, MINUTE_MICROS, Tally};

/// Parts of all requests for which a quota is looked for, in percent.
const PERCENTS: [f64; 3] = [0.1, 1.0, 5.0];

/// What is told of requests under way whose length is not known.
pub(super) const SILENT: &str =
    "the log does not say how long they took, so that they keep nobody out";

/// Columns of a chart, at most.
const COLUMN_COUNT_MAX: u64 = 96;

/// What there is to tell.
pub struct Report {
    /// What was read, in a line or more.
    pub summary: String,
    /// One for each limit of each policy.
    pub limits: Vec<LimitReport>,
}

/// What one limit would have done.
pub struct LimitReport {
    /// The name shown in header fields.
    pub name: String,
    /// `10 per 1s by client_ip on /api/**`.
    pub described: String,
    /// Shadowed policies refuse nobody.
    pub is_shadow: bool,
    /// Over all requests that it was asked about.
    pub total: Count,
    /// Keys, and keys that were refused.
    pub key_counts: (usize, usize),
    /// The keys refused most.
    pub keys: Vec<(String, Count)>,
    /// Requests over time: the start of each column, and what came in it.
    pub columns: Vec<(Timestamp, Count)>,
    /// Minutes of a column.
    pub column_minutes: u64,
    /// Percent refused at most, and the least quota for it.
    pub quotas: Vec<(f64, u64)>,
    /// The quota now in force.
    pub quota: u64,
    /// The quotas are those of a sliding window in place of the limit's own
    /// algorithm.
    pub is_estimate: bool,
    /// Requests refused because they lacked the key.
    pub denied_unasked: u64,
    /// Of a limit of requests under way: those that it let pass, and of which the log does
    /// not say how long they took.
    pub without_duration: u64,
}

impl Report {
    /// Works out what to tell. Looks for quotas, which takes a while.
    pub fn new(set: &PolicySet, tally: &Tally, skipped: &Skipped, top: usize) -> Report {
        let mut limits = Vec::new();
        for (place, policy) in set.policies().iter().enumerate() {
            for (limit, counted) in policy.limits().iter().zip(&tally.policies[place]) {
                let mut report = LimitReport::new(policy, limit, counted, top);
                report.denied_unasked = tally.denied_unasked[place];
                limits.push(report);
            }
        }
        Report { summary: summary(tally, skipped), limits }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = self.summary.clone();
        for limit in &self.limits {
            limit.write(&mut text);
        }
        text
    }
}

/// When no line was a request.
pub fn nothing(skipped: &Skipped) -> String {
    let mut text = "no requests\n".to_owned();
    not_understood(&mut text, skipped);
    text
}

fn summary(tally: &Tally, skipped: &Skipped) -> String {
    let Count { asked, refused } = tally.requests;
    let mut text = format!("{} requests", grouped(asked));
    if let Some((first, last)) = tally.span {
        let _ = write!(text, " from {} to {}", shown(first), shown(last));
    }
    let percent = percent(tally.requests.percent());
    let _ = writeln!(text, "\n{} would have been refused ({percent})", grouped(refused));
    if skipped.bad_paths > 0 {
        let count = grouped(skipped.bad_paths);
        let _ = writeln!(text, "{count} not asked: their path has no single meaning (400)");
    }
    if skipped.out_of_order > 0 {
        let count = grouped(skipped.out_of_order);
        let _ = writeln!(
            text,
            "{count} lines lie over a second back in time; are the logs given oldest first?"
        );
    }
    not_understood(&mut text, skipped);
    text
}

fn not_understood(text: &mut String, skipped: &Skipped) {
    if let Some((place, why)) = &skipped.first {
        let count = grouped(skipped.count);
        let _ = writeln!(text, "{count} not understood, the first {place}: {why}");
    }
}

impl LimitReport {
    fn new(policy: &Policy, limit: &Limit, counted: &LimitTally, top: usize) -> LimitReport {
        let (columns, column_minutes) = columns(counted);
        let found = |percent| {
            counted.history.quota_for(percent, limit.window()).map(|quota| (percent, quota))
        };
        LimitReport {
            name: limit.name().to_owned(),
            described: policy.describe(),
            is_shadow: policy.mode() == Mode::Shadow,
            total: counted.total,
            key_counts: counted.key_counts(),
            keys: counted.most_refused(top),
            columns,
            column_minutes,
            quotas: match limit.algorithm() {
                // Of requests under way a window says nothing.
                Algorithm::Concurrency => Vec::new(),
                _ => PERCENTS.into_iter().filter_map(found).collect(),
            },
            quota: limit.quota(),
            is_estimate: *limit.algorithm() != Algorithm::SlidingWindow,
            denied_unasked: 0,
            without_duration: match limit.algorithm() {
                Algorithm::Concurrency => counted.without_duration,
                _ => 0,
            },
        }
    }

    fn write(&self, text: &mut String) {
        let Count { asked, refused } = self.total;
        let (keys, refused_keys) = self.key_counts;
        let _ = writeln!(text, "\n{}\n  {}", self.name, self.described);
        let _ = writeln!(
            text,
            "  asked          {:>12}  of {} keys",
            grouped(asked),
            grouped(keys as u64)
        );
        let shadow = if self.is_shadow { ", but is shadowed" } else { "" };
        let _ = writeln!(
            text,
            "  refused        {:>12}  {}, {} of the keys{shadow}",
            grouped(refused),
            percent(self.total.percent()),
            grouped(refused_keys as u64)
        );
        if self.denied_unasked > 0 {
            let _ = writeln!(text, "  without a key  {:>12}", grouped(self.denied_unasked));
        }
        if self.without_duration > 0 {
            let count = grouped(self.without_duration);
            let _ = writeln!(text, "  without length {count:>12}  {SILENT}");
        }
        for (key, count) in &self.keys {
            let of = grouped(count.asked);
            let _ = writeln!(text, "    {:>25}  of {of:<10} {key}", grouped(count.refused));
        }
        let worst = self.columns.iter().filter(|(_, count)| count.refused > 0);
        if let Some((at, count)) = worst.max_by_key(|(_, count)| count.refused) {
            let _ = writeln!(
                text,
                "  most at        {:>12}  in the {} min from {}",
                grouped(count.refused),
                self.column_minutes,
                shown(*at)
            );
        }
        if !self.quotas.is_empty() {
            let _ = writeln!(text, "  quota          {:>12}  now", grouped(self.quota));
            let model = if self.is_estimate { ", by a sliding window" } else { "" };
            for (percent, quota) in &self.quotas {
                let quota = grouped(*quota);
                let _ = writeln!(
                    text,
                    "    {quota:>25}  would have refused at most {percent} %{model}"
                );
            }
        }
    }
}

/// Minutes joined to columns, so that a chart has room for them.
fn columns(counted: &LimitTally) -> (Vec<(Timestamp, Count)>, u64) {
    let (Some((&first, _)), Some((&last, _))) =
        (counted.by_minute.first_key_value(), counted.by_minute.last_key_value())
    else {
        return (Vec::new(), 1);
    };
    let minutes = (last - first + 1).div_ceil(COLUMN_COUNT_MAX);
    let column_count = (last - first + 1).div_ceil(minutes);
    let start = |column: u64| Timestamp::from_micros((first + column * minutes) * MINUTE_MICROS);
    let mut columns: Vec<(Timestamp, Count)> =
        (0..column_count).map(|column| (start(column), Count::default())).collect();
    for (minute, count) in &counted.by_minute {
        let column = &mut columns[((minute - first) / minutes) as usize].1;
        column.asked += count.asked;
        column.refused += count.refused;
    }
    (columns, minutes)
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part in percent, precise enough to tell nothing from little.
pub(super) fn percent(percent: f64) -> String {
    match percent {
        0.0 => "0 %".to_owned(),
        it if it < 0.1 => format!("{it:.3} %"),
        it => format!("{it:.1} %"),
    }
}

/// A moment for people: `2025-10-10 20:55:36 UTC`.
pub(super) fn shown(at: Timestamp) -> String {
    let seconds = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_far_away) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_parts_are_told_precisely_enough() {
        let groups: Vec<String> = [0, 999, 1_000, 1_234_567].map(grouped).into();
        assert_eq!(groups, ["0", "999", "1,000", "1,234,567"]);
        let parts: Vec<String> = [0.0, 0.004, 1.25, 100.0].map(percent).into();
        assert_eq!(parts, ["0 %", "0.004 %", "1.2 %", "100.0 %"]);
        assert_eq!(shown(Timestamp::from_micros(1_760_129_736_500_000)), "2025-10-10 20:55:36 UTC");
    }
}

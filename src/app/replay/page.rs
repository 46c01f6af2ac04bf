//! The report as a page: one file, no script, nothing fetched.
//!
//! Charts are drawn as SVG. Whatever comes from a log or a policy file is
//! escaped; a page may be opened by somebody else than who replayed.

use std::fmt::Write as _;

use super::report::{LimitReport, Report, SILENT, grouped, percent, shown};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 160.0;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#1d2733;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2.5rem 0 0}
pre,code,td{font-variant-numeric:tabular-nums}.about{color:#5b6b7c;margin:0 0 .8rem}
svg{width:100%;height:auto;display:block;border-bottom:1px solid #b8c4d0}
.asked{fill:#9fb8d0}.refused{fill:#c8402f}
figcaption{display:flex;justify-content:space-between;color:#5b6b7c;font-size:.85rem}
figure{margin:0 0 1rem}table{border-collapse:collapse;margin:.5rem 2rem .5rem 0}
td,th{padding:.15rem .8rem .15rem 0;text-align:right}th{color:#5b6b7c;font-weight:500}
td:last-child,th:last-child{text-align:left;overflow-wrap:anywhere}
.tables{display:flex;flex-wrap:wrap;align-items:start}
@media(prefers-color-scheme:dark){body{color:#dde5ee;background:#141a21}
.about,figcaption,th{color:#93a4b5}.asked{fill:#3f5d7a}.refused{fill:#e8604e}}
";

/// The page.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>weir replay</title>\
         <style>{STYLE}</style><h1>What the policies would have done</h1><pre>{}</pre>",
        escaped(&report.summary)
    );
    report.limits.iter().for_each(|limit| section(&mut html, limit));
    html.push_str("</html>\n");
    html
}

fn section(html: &mut String, limit: &LimitReport) {
    let shadow = if limit.is_shadow { " It is shadowed, and refuses nobody." } else { "" };
    let silent = match limit.without_duration {
        0 => String::new(),
        count => format!(" Of {} requests {SILENT}.", grouped(count)),
    };
    let _ = write!(
        html,
        "<section><h2>{}</h2><p class=\"about\">{}<br>{} of {} requests refused ({}), \
         {} of {} keys.{shadow}{silent}</p>",
        escaped(&limit.name),
        escaped(&limit.described),
        grouped(limit.total.refused),
        grouped(limit.total.asked),
        percent(limit.total.percent()),
        grouped(limit.key_counts.1 as u64),
        grouped(limit.key_counts.0 as u64),
    );
    chart(html, limit);
    html.push_str("<div class=\"tables\">");
    quotas(html, limit);
    keys(html, limit);
    html.push_str("</div></section>");
}

/// Requests over time, those refused at the foot of each column.
fn chart(html: &mut String, limit: &LimitReport) {
    let Some(highest) = limit.columns.iter().map(|(_, count)| count.asked).max() else { return };
    let (Some((first, _)), Some((last, _))) = (limit.columns.first(), limit.columns.last()) else {
        return;
    };
    let width = WIDTH / limit.columns.len() as f64;
    let _ = write!(
        html,
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"requests over \
         time\">"
    );
    for (index, (at, count)) in limit.columns.iter().enumerate() {
        let x = index as f64 * width;
        let title = format!(
            "{}: {} requests, {} refused",
            shown(*at),
            grouped(count.asked),
            grouped(count.refused)
        );
        let _ = write!(html, "<g><title>{title}</title>");
        for (class, value) in [("asked", count.asked), ("refused", count.refused)] {
            let height = value as f64 / highest.max(1) as f64 * (HEIGHT - 4.0);
            let _ = write!(
                html,
                "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{:.2}\" width=\"{:.2}\" \
                 height=\"{height:.2}\"/>",
                HEIGHT - height,
                (width - 1.0).max(0.5),
            );
        }
        html.push_str("</g>");
    }
    let _ = write!(
        html,
        "</svg><figcaption><span>{}</span><span>at most {} requests in {} min; red: refused</span>\
         <span>{}</span></figcaption></figure>",
        shown(*first),
        grouped(highest),
        limit.column_minutes,
        shown(*last)
    );
}

fn quotas(html: &mut String, limit: &LimitReport) {
    if limit.quotas.is_empty() {
        return;
    }
    let model = if limit.is_estimate { " by a sliding window" } else { "" };
    let _ = write!(
        html,
        "<table><tr><th>quota<th>would have refused{model}<tr><td>{}<td>{} (now)",
        grouped(limit.quota),
        percent(limit.total.percent())
    );
    for (part, quota) in &limit.quotas {
        let _ = write!(html, "<tr><td>{}<td>at most {part} %", grouped(*quota));
    }
    html.push_str("</table>");
}

fn keys(html: &mut String, limit: &LimitReport) {
    if limit.keys.is_empty() {
        return;
    }
    html.push_str("<table><tr><th>refused<th>asked<th>key");
    for (key, count) in &limit.keys {
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>{}",
            grouped(count.refused),
            grouped(count.asked),
            escaped(key)
        );
    }
    html.push_str("</table>");
}

/// A text that means itself in HTML. Control characters become visible.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push('\n'),
            it if it.is_control() => html.push('\u{fffd}'),
            it => html.push(it),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_log_becomes_markup() {
        let escaped = escaped("<img src=x onerror='alert(\"1\")'>&\u{1b}[2J");
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{1b}']), "{escaped}");
    }
}

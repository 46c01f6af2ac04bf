//! The first line of a library: which engine runs it, and its name.
//!
//! ```text
//! #!lua name=limiter
//! ```
//!
//! Words and quotes follow Redis' rules for lines (`sdssplitargs`): blanks part
//! words, "…" knows `\n`, `\xHH` and their like, '…' knows `\'`.

use super::error::LoadError;

/// What the first line said, and where the Lua text begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata<'a> {
    pub(super) library: String,
    /// The text from the line end of the first line on, so that line 2 of the
    /// file is line 2 for Lua too.
    pub(super) body: &'a str,
}

pub(super) const BAD_NAME: &str = "Library names can only contain letters, numbers, or \
                                   underscores(_) and must be at least one character long";

/// True for a name that libraries and Functions may have.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Reads the first line of a library.
pub(super) fn parse(code: &str) -> Result<Metadata<'_>, LoadError> {
    let refuse = |text: &str| Err(LoadError::Metadata(text.to_owned()));
    if !code.starts_with("#!") {
        return refuse("Missing library metadata");
    }
    let Some(line_end) = code.find('\n') else {
        return refuse("Invalid library metadata");
    };
    let Some(words) = words(code[..line_end].trim_end_matches('\r')) else {
        return refuse("Invalid library metadata");
    };
    let engine = words.first().map_or("", |word| &word[2..]);
    let mut library = None;
    for word in words.iter().skip(1) {
        let is_name = word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("name="));
        if !is_name {
            return refuse(&format!("Invalid metadata value given: {word}"));
        }
        if library.replace(word[5..].to_owned()).is_some() {
            return refuse("Invalid metadata value, name argument was given multiple times");
        }
    }
    let Some(library) = library else {
        return refuse("Library name was not given");
    };
    if !is_name(library.as_bytes()) {
        return refuse(BAD_NAME);
    }
    if !engine.eq_ignore_ascii_case("lua") {
        return refuse(&format!("Engine '{engine}' not found"));
    }
    Ok(Metadata { library, body: &code[line_end..] })
}

/// Splits a line into words; `None` when a quote stays open or ends mid-word.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|it| it.is_ascii_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(words);
        }
        let mut word = String::new();
        while let Some(&next) = chars.peek() {
            if next.is_ascii_whitespace() {
                break;
            }
            chars.next();
            if next != '"' && next != '\'' {
                word.push(next);
                continue;
            }
            quoted(&mut chars, next, &mut word)?;
            if chars.peek().is_some_and(|after| !after.is_ascii_whitespace()) {
                return None;
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing `quote` into `word`.
fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    quote: char,
    word: &mut String,
) -> Option<()> {
    loop {
        let next = chars.next()?;
        if next == quote {
            return Some(());
        }
        if next != '\\' {
            word.push(next);
            continue;
        }
        if quote == '\'' {
            word.push(if chars.next_if_eq(&'\'').is_some() { '\'' } else { '\\' });
            continue;
        }
        match chars.next()? {
            'n' => word.push('\n'),
            'r' => word.push('\r'),
            't' => word.push('\t'),
            'b' => word.push('\u{8}'),
            'a' => word.push('\u{7}'),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                word.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
            }
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &str, expected: Result<(&str, &str), &str>) {
        let found = parse(code).map_err(|error| error.to_string());
        let found = found.as_ref().map(|it| (it.library.as_str(), it.body)).map_err(String::as_str);
        assert_eq!(found, expected, "{code:?}");
    }

    #[test]
    fn the_first_line_is_read_as_redis_reads_it() {
        check("#!lua name=a\nx", Ok(("a", "\nx")));
        check("#!LUA   NAME=a_9\r\nx", Ok(("a_9", "\nx")));
        check("#!lua name=\"Q\"\n", Ok(("Q", "\n")));
        check("#!lua name='Q'\n", Ok(("Q", "\n")));
        check("#!lua name=\"\\x41b\"\n", Ok(("Ab", "\n")));
        check("x = 1", Err("Missing library metadata"));
        check("", Err("Missing library metadata"));
        check("#!lua name=a", Err("Invalid library metadata"));
        check("#!lua name=\"a\n", Err("Invalid library metadata"));
        check("#!lua\n", Err("Library name was not given"));
        check("#!lua bad=1\n", Err("Invalid metadata value given: bad=1"));
        check(
            "#!lua name=a name=b\n",
            Err("Invalid metadata value, name argument was given multiple times"),
        );
        check("#!lua name=a-b\n", Err(BAD_NAME));
        check("#!lua name=\n", Err(BAD_NAME));
        check("#!js name=a\n", Err("Engine 'js' not found"));
        check("#! name=a\n", Err("Engine '' not found"));
    }
}

//! Scripts: texts that `EVAL` runs, known by the SHA1 of their bytes.
//!
//! A text is kept for as long as the process lives, or until `SCRIPT FLUSH`, so
//! that `EVALSHA` finds it. What Lua compiled of it is kept for the last few
//! hundred only: a client that sends a new text each time fills no memory of Lua.
//!
//! A text may begin with a line that declares flags; without one the older rules
//! hold, under which a script is taken to write until it does not.
//!
//! ```text
//! #!lua flags=no-writes,allow-oom
//! ```

use std::collections::VecDeque;

use hashbrown::HashMap;
use sha1::{Digest, Sha1};

use super::context::Origin;
use super::engine::Engine;
use super::error::CompileError;
use super::library::Flags;
use super::metadata::words;
use super::raw::Anchor;
use super::vm::{LoadFault, Vm};

/// Scripts that stay compiled.
const COMPILED_COUNT_MAX: usize = 500;

/// The name of a script: forty hex digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha([u8; 40]);

impl Sha {
    /// The name of the script with this text.
    pub(super) fn of(text: &[u8]) -> Sha {
        Sha(hex_sha1(text))
    }

    /// What a client wrote, in any case; `None` when no script can be named so.
    pub(super) fn parse(text: &[u8]) -> Option<Sha> {
        let mut digits: [u8; 40] = text.try_into().ok()?;
        digits.make_ascii_lowercase();
        Some(Sha(digits))
    }

    /// The digits.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The SHA1 of a text as forty hex digits.
pub(super) fn hex_sha1(text: &[u8]) -> [u8; 40] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut digits = [0; 40];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha1::digest(text)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits
}

/// What can be called: a script that is compiled, or a Function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Callable {
    pub(super) callback: Anchor,
    /// `None` without a line that declares them.
    pub(super) flags: Option<Flags>,
}

/// The scripts of an engine.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    known: HashMap<Sha, Known>,
    /// Those that are compiled, in that order.
    compiled: VecDeque<Sha>,
}

#[derive(Debug)]
struct Known {
    text: Box<[u8]>,
    flags: Option<Flags>,
    callback: Option<Anchor>,
}

impl Scripts {
    pub(super) fn knows(&self, sha: Sha) -> bool {
        self.known.contains_key(&sha)
    }

    fn release(&mut self, sha: Sha, vm: &Vm) {
        if let Some(callback) = self.known.get_mut(&sha).and_then(|it| it.callback.take()) {
            vm.release(callback);
        }
    }
}

impl Engine {
    /// The script of this name, if it is known.
    pub(super) fn script(&mut self, sha: Sha) -> Option<Result<Callable, CompileError>> {
        let known = self.scripts.known.get(&sha)?;
        if let Some(callback) = known.callback {
            return Some(Ok(Callable { callback, flags: known.flags }));
        }
        let text = known.text.clone();
        Some(self.compile_script(sha, &text))
    }

    /// Makes a script known.
    pub(super) fn load_script(&mut self, text: &[u8]) -> Result<(Sha, Callable), CompileError> {
        let sha = Sha::of(text);
        match self.script(sha) {
            Some(script) => Ok((sha, script?)),
            None => Ok((sha, self.compile_script(sha, text)?)),
        }
    }

    /// Forgets every script.
    pub(super) fn flush_scripts(&mut self) {
        self.forget_compiled();
        self.scripts.known.clear();
    }

    /// Forgets what scripts were compiled to; their texts stay known.
    fn forget_compiled(&mut self) {
        for sha in std::mem::take(&mut self.scripts.compiled) {
            self.scripts.release(sha, &self.script_vm);
        }
    }

    fn compile_script(&mut self, sha: Sha, text: &[u8]) -> Result<Callable, CompileError> {
        let (flags, body) = split_shebang(text)?;
        // Scripts keep nothing, but what they were compiled to stays: the long ones of
        // one client must not take the memory that the next one needs.
        if self.script_vm.is_half_full() {
            self.forget_compiled();
            self.script_vm.collect_garbage();
        }
        let time_max = self.limits.load_time_max;
        let loading = self
            .script_vm
            .load_text(Origin::Script, body, time_max, &self.watchdog)
            .map_err(|fault| match fault {
                LoadFault::Compile(text) | LoadFault::Run(text) => CompileError::Lua(text),
            })?;
        let callback = loading.script;
        let known = Known { text: text.into(), flags, callback: Some(callback) };
        self.scripts.known.insert(sha, known);
        self.scripts.compiled.push_back(sha);
        if self.scripts.compiled.len() > COMPILED_COUNT_MAX
            && let Some(oldest) = self.scripts.compiled.pop_front()
        {
            self.scripts.release(oldest, &self.script_vm);
        }
        Ok(Callable { callback, flags })
    }
}

/// Parts a first line that declares flags from the Lua text, which keeps the line
/// end, so that line 2 of the text is line 2 for Lua too.
fn split_shebang(text: &[u8]) -> Result<(Option<Flags>, &[u8]), CompileError> {
    if !text.starts_with(b"#!") {
        return Ok((None, text));
    }
    let end = memchr::memchr(b'\n', text).ok_or(CompileError::Shebang)?;
    let line = String::from_utf8_lossy(&text[..end]);
    let words = words(&line).ok_or(CompileError::Shebang)?;
    let engine = words.first().map_or("", String::as_str);
    if engine != "#!lua" {
        return Err(CompileError::Engine(engine.to_owned()));
    }
    let mut flags = Flags::default();
    for word in &words[1..] {
        let Some(names) = word.strip_prefix("flags=") else {
            return Err(CompileError::Option(word.clone()));
        };
        for name in names.split(',').filter(|it| !it.is_empty()) {
            let flag = Flags::named(name.as_bytes());
            flags = flags.and(flag.ok_or_else(|| CompileError::Flag(name.to_owned()))?);
        }
    }
    Ok((Some(flags), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<&str>, &str), &str>) {
        let found = split_shebang(text.as_bytes()).map_err(|error| error.to_string());
        let found = found.as_ref().map(|(flags, body)| {
            let names = flags.map(|it| it.names().collect::<Vec<_>>().join(","));
            (names, std::str::from_utf8(body).unwrap())
        });
        let found = found.as_ref().map(|(names, body)| (names.as_deref(), *body));
        assert_eq!(found.map_err(|error| error.as_str()), expected, "{text:?}");
    }

    #[test]
    fn the_first_line_may_declare_flags() {
        check("return 1", Ok((None, "return 1")));
        check("#!lua\nreturn 1", Ok((Some(""), "\nreturn 1")));
        check("#!lua flags=no-writes,allow-oom\n", Ok((Some("no-writes,allow-oom"), "\n")));
        check("#!lua flags=\n", Ok((Some(""), "\n")));
        check("#!lua", Err("ERR Invalid script shebang"));
        check("#!js\n", Err("ERR Unexpected engine in script shebang: #!js"));
        check("#!lua name=x\n", Err("ERR Unknown lua shebang option: name=x"));
        check("#!lua flags=nope\n", Err("ERR Unexpected flag in script shebang: nope"));
    }

    #[test]
    fn names_are_compared_in_any_case() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(sha.to_string().to_uppercase().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(b"e0e1"), None);
    }
}

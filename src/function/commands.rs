//! What clients ask of the engine: the commands of [`Run::Engine`], with the
//! replies and the error texts of Redis 7.0.
//!
//! A call that Redis would let run on for ever is ended here and undone, see
//! [`Limits`](super::Limits); so `KILL` never finds a call that may not be ended,
//! and whoever asks while nothing runs is told so.
//!
//! [`Run::Engine`]: crate::keyspace::Run::Engine

use std::time::Duration;

use smallvec::SmallVec;

use super::engine::{Engine, Task, What, permit};
use super::error::{CallError, CommandError, LoadError};
use super::help;
use super::library::{Flags, Library, Rule};
use super::script::{Callable, Sha};
use super::watchdog::NotKilled;
use crate::keyspace::rdb::payload::{self, Refused};
use crate::keyspace::{Arg, Asker, Command, Execution, Keyspace, Room, glob};
use crate::resp::Reply;

/// An argv: the command's name, then its arguments.
type Words<'a> = [&'a [u8]];

/// What every handler returns: its reply is written.
type Done = Result<(), CommandError>;

impl Engine {
    /// Runs a command that the table gives to the engine. `args[0]` is its name.
    /// Adds one reply to `run.reply`, which is an error line when the command was
    /// refused or failed. What a call wrote before it failed stays, as in Redis,
    /// unless it used up what a call may use: then it is undone.
    ///
    /// No transaction of the keyspace may be open.
    pub fn run_command(
        &mut self,
        command: &'static Command,
        args: &[Arg<'_>],
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
    ) {
        let words: SmallVec<[&[u8]; 16]> = args.iter().map(bytes).collect();
        let before = run.reply.mark();
        let done = match command.name {
            _ if !command.accepts(words.len()) => Err(CommandError::Arity(command.name.to_owned())),
            "script" | "function" => self.run_subcommand(command, args, &words, run),
            name => {
                let access = match name.ends_with("_ro") {
                    true => Access::ReadOnly,
                    false => Access::Any,
                };
                let request = Request { words: &words, access, keyspace, run };
                match name {
                    "eval" | "eval_ro" => self.eval(request),
                    "evalsha" | "evalsha_ro" => self.evalsha(request),
                    "fcall" | "fcall_ro" => self.fcall(request),
                    other => Err(CommandError::Elsewhere(other)),
                }
            }
        };
        if let Err(error) = done {
            run.reply.truncate(before);
            error.write(run.reply);
        }
    }

    fn run_subcommand(
        &mut self,
        container: &'static Command,
        args: &[Arg<'_>],
        words: &Words<'_>,
        run: &mut Execution<'_>,
    ) -> Done {
        let named = |it: &&Command| it.name.as_bytes().eq_ignore_ascii_case(words[1]);
        let Some(part) = container.subcommands.iter().find(named) else {
            return Err(CommandError::unknown_subcommand(container.name, words[1]));
        };
        if !part.accepts(words.len()) {
            return Err(CommandError::Arity(format!("{}|{}", container.name, part.name)));
        }
        run.permit(part.flags).map_err(CallError::Denied)?;
        let rest = &words[2..];
        match (container.name, part.name) {
            ("script", "load") => self.script_load(rest, run.reply),
            ("script", "exists") => self.script_exists(rest, run.reply),
            ("script", "flush") => self.script_flush(rest, run.reply),
            ("script", "debug") => script_debug(rest, run.reply),
            ("script", "kill") | ("function", "kill") => Err(NotKilled::Idle.into()),
            ("script", "help") => help::write(&help::SCRIPT, run.reply),
            ("function", "help") => help::write(&help::FUNCTION, run.reply),
            ("function", "load") => self.function_load(rest, args, run),
            ("function", "delete") => self.function_delete(rest, args, run),
            ("function", "flush") => self.function_flush(rest, args, run),
            ("function", "list") => self.function_list(rest, run.reply),
            ("function", "dump") => self.function_dump(run.reply),
            ("function", "restore") => self.function_restore(rest, args, run),
            ("function", "stats") => self.function_stats(run.reply),
            _ => Err(CommandError::Elsewhere(part.name)),
        }
    }

    /// `EVAL script numkeys [key …] [arg …]`
    fn eval(&mut self, request: Request<'_, '_>) -> Done {
        let inputs = Inputs::parse(request.words, CommandError::NotInteger)?;
        let (sha, script) = self.load_script(request.words[1])?;
        self.perform_request(What::Script(sha), script, inputs, request)
    }

    /// `EVALSHA sha1 numkeys [key …] [arg …]`
    fn evalsha(&mut self, request: Request<'_, '_>) -> Done {
        let sha = Sha::parse(request.words[1]).ok_or(CommandError::NoScript)?;
        let inputs = Inputs::parse(request.words, CommandError::NotInteger)?;
        let script = self.script(sha).ok_or(CommandError::NoScript)??;
        self.perform_request(What::Script(sha), script, inputs, request)
    }

    /// `FCALL function numkeys [key …] [arg …]`
    fn fcall(&mut self, request: Request<'_, '_>) -> Done {
        let name = std::str::from_utf8(request.words[1]).map_err(|_bytes| CallError::NotFound)?;
        let target = self.names.for_clients(name).ok_or(CallError::NotFound)?;
        let inputs = Inputs::parse(request.words, CommandError::BadKeyCount)?;
        let function = self.function(target);
        let callable = Callable { callback: function.callback, flags: Some(function.flags) };
        self.perform_request(What::Function(target), callable, inputs, request)
    }

    /// Runs a call if its flags allow it now. One that overran is undone.
    fn perform_request(
        &mut self,
        what: What,
        callable: Callable,
        inputs: Inputs<'_>,
        request: Request<'_, '_>,
    ) -> Done {
        let Request { access, keyspace, run, .. } = request;
        let Callable { callback, flags } = callable;
        flags.map_or(Ok(()), |flags| permit(flags, run))?;
        let no_writes = flags.is_some_and(Flags::no_writes);
        if access == Access::ReadOnly && flags.is_some() && !no_writes {
            return Err(CommandError::WritesUnderReadOnly);
        }
        // Whoever runs commands has evicted what there was to evict.
        let is_full = !flags.is_some_and(Flags::allow_oom)
            && keyspace.make_room(Asker::Client, 0, run) != Room::Enough;
        if is_full && flags.is_some() && !no_writes {
            return Err(CommandError::OutOfMemory);
        }
        let time_max = self.limits.command_time_max.unwrap_or(Duration::MAX);
        let read_only = no_writes || access == Access::ReadOnly;
        let task = Task { what, is_of_client: true, callback, read_only, is_full, time_max };
        let before = run.effects.mark();
        keyspace.begin();
        let done = self.perform(&task, inputs.keys, inputs.args, keyspace, run);
        if let Err(CallError::Budget { .. } | CallError::Killed { .. }) = &done {
            keyspace.rollback();
            run.effects.truncate(before);
        } else {
            keyspace.commit();
        }
        Ok(done?)
    }

    /// `SCRIPT LOAD script`
    fn script_load(&mut self, rest: &Words<'_>, reply: &mut Reply) -> Done {
        let (sha, _) = self.load_script(rest[0])?;
        reply.bulk(sha.as_bytes());
        Ok(())
    }

    /// `SCRIPT EXISTS sha1 [sha1 …]`
    fn script_exists(&self, rest: &Words<'_>, reply: &mut Reply) -> Done {
        reply.array(rest.len());
        for name in rest {
            let known = Sha::parse(name).is_some_and(|sha| self.scripts.knows(sha));
            reply.integer(i64::from(known));
        }
        Ok(())
    }

    /// `SCRIPT FLUSH [ASYNC | SYNC]`
    fn script_flush(&mut self, rest: &Words<'_>, reply: &mut Reply) -> Done {
        if !is_flush_option(rest) {
            return Err(CommandError::ScriptFlushOption);
        }
        self.flush_scripts();
        reply.status("OK");
        Ok(())
    }

    /// `FUNCTION LOAD [REPLACE] code`
    fn function_load(
        &mut self,
        rest: &Words<'_>,
        args: &[Arg<'_>],
        run: &mut Execution<'_>,
    ) -> Done {
        let [options @ .., code] = rest else { return Err(CommandError::NoCode) };
        if let Some(odd) = options.iter().find(|it| !it.eq_ignore_ascii_case(b"replace")) {
            return Err(CommandError::UnknownOption(lossy(odd)));
        }
        let code = std::str::from_utf8(code).map_err(|_bytes| CommandError::CodeNotText)?;
        let name = self.load(code, !options.is_empty())?;
        run.record(args);
        run.reply.bulk(name.as_bytes());
        Ok(())
    }

    /// `FUNCTION DELETE library`
    fn function_delete(
        &mut self,
        rest: &Words<'_>,
        args: &[Arg<'_>],
        run: &mut Execution<'_>,
    ) -> Done {
        if !std::str::from_utf8(rest[0]).is_ok_and(|name| self.delete(name)) {
            return Err(CommandError::LibraryNotFound);
        }
        run.record(args);
        run.reply.status("OK");
        Ok(())
    }

    /// `FUNCTION FLUSH [ASYNC | SYNC]`
    fn function_flush(
        &mut self,
        rest: &Words<'_>,
        args: &[Arg<'_>],
        run: &mut Execution<'_>,
    ) -> Done {
        if !is_flush_option(rest) {
            return Err(CommandError::FunctionFlushOption);
        }
        self.flush();
        run.record(args);
        run.reply.status("OK");
        Ok(())
    }

    /// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`
    fn function_list(&self, rest: &Words<'_>, reply: &mut Reply) -> Done {
        let (mut pattern, mut with_code) = (None, false);
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            if !with_code && word.eq_ignore_ascii_case(b"withcode") {
                with_code = true;
            } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
                pattern = Some(words.next().ok_or(CommandError::NoLibraryName)?);
            } else {
                return Err(CommandError::UnknownArgument(lossy(word)));
            }
        }
        let listed = |library: &&Library| match pattern {
            Some(pattern) => {
                let name = library.name.to_ascii_lowercase();
                glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes())
            }
            None => true,
        };
        reply.array(self.libraries().filter(listed).count());
        for library in self.libraries().filter(listed) {
            list_library(library, with_code, reply);
        }
        Ok(())
    }

    /// `FUNCTION DUMP`
    fn function_dump(&self, reply: &mut Reply) -> Done {
        reply.bulk(&payload::dump_libraries(self.libraries().map(|it| &*it.code)));
        Ok(())
    }

    /// `FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]`
    fn function_restore(
        &mut self,
        rest: &Words<'_>,
        args: &[Arg<'_>],
        run: &mut Execution<'_>,
    ) -> Done {
        let (packed, rule) = match rest {
            [packed] => (packed, Rule::Append),
            [packed, word] if word.eq_ignore_ascii_case(b"append") => (packed, Rule::Append),
            [packed, word] if word.eq_ignore_ascii_case(b"replace") => (packed, Rule::Replace),
            [packed, word] if word.eq_ignore_ascii_case(b"flush") => (packed, Rule::Flush),
            [_, _] => return Err(CommandError::RestorePolicy),
            _ => return Err(CommandError::RestoreArguments),
        };
        let codes = payload::restore_libraries(packed).map_err(|refused| match refused {
            Refused::VersionOrChecksum => CommandError::BadPayload,
            Refused::Format => CommandError::NotFunctions,
        })?;
        self.install(&codes, rule).map_err(|error| match error {
            LoadError::LibraryExists(name) => CommandError::LibraryExists(name),
            other => other.into(),
        })?;
        run.record(args);
        run.reply.status("OK");
        Ok(())
    }

    /// `FUNCTION STATS`: whoever gets an answer came when nothing ran.
    fn function_stats(&self, reply: &mut Reply) -> Done {
        reply.map(2);
        reply.bulk(b"running_script");
        reply.null();
        reply.bulk(b"engines");
        reply.map(1);
        reply.bulk(b"LUA");
        reply.map(2);
        reply.bulk(b"libraries_count");
        reply.count(self.libraries().count());
        reply.bulk(b"functions_count");
        reply.count(self.libraries().map(|it| it.functions.len()).sum());
        Ok(())
    }
}

/// `SCRIPT DEBUG YES | SYNC | NO`: there is no debugger, which is what `NO` asks.
fn script_debug(rest: &Words<'_>, reply: &mut Reply) -> Done {
    if rest[0].eq_ignore_ascii_case(b"no") {
        reply.status("OK");
        return Ok(());
    }
    match [&b"yes"[..], b"sync"].iter().any(|it| rest[0].eq_ignore_ascii_case(it)) {
        true => Err(CommandError::NoDebugger),
        false => Err(CommandError::DebugOption),
    }
}

fn list_library(library: &Library, with_code: bool, reply: &mut Reply) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        match &*function.description {
            "" => reply.null(),
            description => reply.bulk(description.as_bytes()),
        }
        reply.bulk(b"flags");
        reply.set(function.flags.names().count());
        function.flags.names().for_each(|name| reply.status(name));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(library.code.as_bytes());
    }
}

/// What a call was asked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Any,
    /// A command that ends in `_RO`.
    ReadOnly,
}

/// A call as a client asked for it.
struct Request<'a, 'r> {
    words: &'a Words<'a>,
    access: Access,
    keyspace: &'a mut Keyspace,
    run: &'a mut Execution<'r>,
}

/// Keys and arguments of a call.
#[derive(Clone, Copy, Debug)]
struct Inputs<'a> {
    keys: &'a [&'a [u8]],
    args: &'a [&'a [u8]],
}

impl<'a> Inputs<'a> {
    /// `… … numkeys key… arg…`; `bad_count` is what is said of no number.
    fn parse(words: &'a Words<'a>, bad_count: CommandError) -> Result<Inputs<'a>, CommandError> {
        let Some(count) = Arg::Bytes(words[2]).as_integer() else { return Err(bad_count) };
        let rest = &words[3..];
        let count = usize::try_from(count).map_err(|_negative| CommandError::KeysNegative)?;
        let (keys, args) = rest.split_at_checked(count).ok_or(CommandError::TooManyKeys)?;
        Ok(Inputs { keys, args })
    }
}

/// Arguments of these commands come over the wire, never from Lua.
fn bytes<'a>(arg: &Arg<'a>) -> &'a [u8] {
    match *arg {
        Arg::Bytes(bytes) => bytes,
        Arg::Number(_) => b"",
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_flush_option(rest: &Words<'_>) -> bool {
    match rest {
        [] => true,
        [word] => word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync"),
        _ => false,
    }
}

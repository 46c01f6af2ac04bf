//! What a running call knows: where to execute commands, what it may still use,
//! and what it raised.
//!
//! One context belongs to one engine and is reused by every call. It stands at a
//! fixed address, because every native function holds a pointer to it. Whatever
//! a native function must own lives here rather than in its frame, which an
//! error may unwind (see `raw.rs`).

#![allow(unsafe_code, reason = "holds the keyspace by pointer while Lua runs")]

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::slice_from_raw_parts;
use std::time::Duration;

use super::random::Random;
use super::raw::{Anchor, State};
use super::watchdog::Interrupter;
use crate::base::clock::WorkStopwatch;
use crate::base::throttle::Throttle;
use crate::keyspace::{self, Arg, Command, CommandError, Execution, Flags, Keyspace};
use crate::resp::{Protocol, Reply};

/// C stack that one call may use: callbacks from `string.gsub`, `table.sort` and
/// coroutines take up to 9 KiB each. Threads have 2 MiB.
const C_STACK_BYTES_MAX: usize = 512 * 1024;

/// Longest text that a native function builds.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Lines that scripts of one state may have logged: they are written while the
/// keyspace is held.
const LOG_LINES_PER_SECOND: u64 = 50;

/// Commands between two looks at the clock, beside those of the hook: a command
/// over a large value takes long and counts few instructions.
const COMMANDS_PER_CHECK: u32 = 256;

/// See the module's header.
pub(super) struct Context {
    call: Option<Call>,
    /// The Function that is running.
    pub(super) callback: Anchor,
    /// The Function said that it does not write.
    pub(super) read_only: bool,
    /// There was no memory when the call began. One that has written goes on all the
    /// same, so that it does not stop half way.
    pub(super) is_full: bool,
    /// How replies look to the script: `redis.setresp`.
    pub(super) protocol: Protocol,
    /// Time that is left.
    pub(super) budget: Budget,
    /// Whether a Function runs or a script.
    pub(super) origin: Origin,
    /// What a script may write to: the table behind `KEYS` and `ARGV`.
    pub(super) script_globals: Anchor,
    /// Somebody ended the call.
    pub(super) was_killed: bool,
    interrupter: Interrupter,
    /// Text of the error that ended the call, without a dash; `None` if Lua could
    /// not say.
    pub(super) failure: Option<Vec<u8>>,
    /// Line of the text where it was raised.
    pub(super) failure_line: Option<u32>,
    /// A library's or a script's text, while it loads.
    pub(super) loading: Option<Loading>,
    /// Where the reply of the call goes. Commands write theirs to the run's own,
    /// which is swapped with this one until the call ends.
    pub(super) answer: Reply,
    /// False after a script asked that its writes stay out of the log.
    pub(super) records_effects: bool,
    /// The commands that scripts name, by the address of the name.
    pub(super) commands: CommandCache,
    /// The generator behind `math.random`.
    pub(super) random: Random,
    /// Lets lines of `redis.log` through.
    pub(super) log_lines: Throttle,
    /// A text on its way into Lua: kept here, because pushing it may raise.
    pub(super) text: Vec<u8>,
    /// Counts the runs of Lua; see `json`.
    pub(super) run_number: u64,
    args: Vec<Arg<'static>>,
    command_count: u32,
    stack_base: usize,
    panic: Option<Box<dyn Any + Send>>,
}

/// Pointers into the frames below the protected call, alive until it returns.
#[derive(Clone, Copy)]
struct Call {
    keyspace: *mut Keyspace,
    run: *mut Execution<'static>,
    keys: *const [&'static [u8]],
    args: *const [&'static [u8]],
}

/// Where a Lua text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A library: `FUNCTION LOAD`, or a file.
    Library,
    /// `EVAL`, `SCRIPT LOAD`.
    Script,
}

impl Origin {
    /// The name of such texts in Lua: errors read `user_script:LINE: …`.
    pub(super) fn chunk_name(self) -> &'static CStr {
        match self {
            Origin::Library => c"@user_function",
            Origin::Script => c"@user_script",
        }
    }
}

/// A library or a script on its way in.
pub(super) struct Loading {
    /// The Lua text: a line end where the shebang line was, then the rest.
    pub(super) code: Box<[u8]>,
    /// What a library registered so far.
    pub(super) registrations: Vec<Registration>,
    /// What a script was compiled to.
    pub(super) script: Anchor,
    /// The compiler refused the text.
    pub(super) uncompiled: bool,
}

impl Loading {
    pub(super) fn new(code: &[u8]) -> Loading {
        Loading {
            code: code.into(),
            registrations: Vec::new(),
            script: Anchor::NONE,
            uncompiled: false,
        }
    }
}

/// A Function as registered.
pub(super) struct Registration {
    pub(super) name: Box<str>,
    pub(super) description: Box<str>,
    pub(super) flag_bits: u32,
    pub(super) callback: Anchor,
}

/// Why a command was not executed, apart from what the command itself says.
#[derive(Debug)]
pub(super) enum Refusal {
    /// In Redis' words.
    Script(&'static str),
    /// The command's own error line.
    Command(CommandError),
    /// The call may not go on.
    Over,
    /// The command panicked. The call must end; the panic goes on behind it.
    Panicked,
}

impl Context {
    /// A context that runs nothing yet.
    pub(super) fn new(interrupter: Interrupter) -> Context {
        Context {
            call: None,
            callback: Anchor::NONE,
            read_only: false,
            is_full: false,
            protocol: Protocol::Resp2,
            budget: Budget::new(Duration::ZERO),
            origin: Origin::Library,
            was_killed: false,
            interrupter,
            script_globals: Anchor::NONE,
            failure: None,
            failure_line: None,
            loading: None,
            answer: Reply::new(),
            records_effects: true,
            commands: CommandCache::new(),
            random: Random::new(),
            log_lines: Throttle::new(LOG_LINES_PER_SECOND),
            text: Vec::new(),
            run_number: 0,
            args: Vec::new(),
            command_count: 0,
            stack_base: 0,
            panic: None,
        }
    }

    /// Prepares a call of `callback`, whose commands `keyspace` executes in `run`.
    ///
    /// # Safety
    /// The four borrows last, unused by others, until [`Context::leave`].
    pub(super) unsafe fn enter(
        &mut self,
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) {
        std::mem::swap(run.reply, &mut self.answer);
        self.call = Some(Call {
            keyspace,
            run: std::ptr::from_mut(run).cast(),
            keys: slice_from_raw_parts(keys.as_ptr().cast(), keys.len()),
            args: slice_from_raw_parts(args.as_ptr().cast(), args.len()),
        });
    }

    /// Resets what belongs to one run of Lua. `base` is an address in the frame
    /// that starts it.
    pub(super) fn start(&mut self, budget: Duration, base: usize) {
        self.protocol = Protocol::Resp2;
        self.records_effects = true;
        self.run_number += 1;
        self.was_killed = false;
        self.budget = Budget::new(budget);
        self.failure = None;
        self.failure_line = None;
        self.stack_base = base;
    }

    /// Forgets the call. Goes on with the panic of a command, if there was one.
    pub(super) fn leave(&mut self, run: &mut Execution<'_>) {
        self.call = None;
        std::mem::swap(run.reply, &mut self.answer);
        if let Some(panic) = self.panic.take() {
            std::panic::resume_unwind(panic);
        }
    }

    /// Keys and arguments of the call; empty while a library loads.
    pub(super) fn inputs<'a>(&self) -> (&'a [&'a [u8]], &'a [&'a [u8]]) {
        match self.call {
            // SAFETY: `enter` was promised that both outlive the call.
            Some(call) => unsafe { (&*call.keys, &*call.args) },
            None => (&[], &[]),
        }
    }

    /// What the last command replied.
    pub(super) fn reply(&mut self) -> Option<&mut Reply> {
        // SAFETY: `enter` was promised that `run` is ours until the call ends.
        self.call.map(|call| unsafe { &mut *(*call.run).reply })
    }

    /// Executes what `redis.call` was given: the values at 1 to `arg_count`.
    /// Its reply is then in [`Context::reply`]. Calls nothing that raises, save
    /// for the anchoring of a command's name before anything is owned.
    pub(super) fn execute(&mut self, state: State, arg_count: i32) -> Result<(), Refusal> {
        let Some(call) = self.call else {
            return Err(Refusal::Script(
                "ERR redis.call can only be called inside a script invocation",
            ));
        };
        if arg_count == 0 {
            return Err(Refusal::Script(
                "ERR Please specify at least one argument for this redis lib call",
            ));
        }
        let command = match self.commands.find(state) {
            Some(command) => command,
            None => return Err(Refusal::Script(why_unknown(state, arg_count))),
        };
        self.args.clear();
        for index in 1..=arg_count {
            self.args.push(state.argument(index).ok_or(Refusal::Script(NOT_TEXT))?);
        }
        check_allowed(command, &self.args, self.read_only)?;
        self.check_time()?;
        // SAFETY: `enter` was promised that both are ours until the call ends; no
        // reference from an earlier command is alive.
        let (keyspace, run) = unsafe { (&mut *call.keyspace, &mut *call.run) };
        run.reply.clear();
        if self.is_full && command.flags.contains(Flags::DENYOOM) {
            return Err(Refusal::Script("OOM command not allowed when used memory > 'maxmemory'."));
        }
        if !command.flags.contains(Flags::SKIP_MONITOR) {
            run.effects.note_scripted(&self.args);
        }
        let before = run.effects.mark();
        let args = &self.args;
        match catch_unwind(AssertUnwindSafe(|| keyspace.execute(command, args, run))) {
            Ok(outcome) => {
                self.is_full &= run.effects.mark() == before;
                if !self.records_effects {
                    run.effects.forget_since(before);
                }
                outcome.map_err(Refusal::Command)
            }
            Err(panic) => {
                self.panic = Some(panic);
                self.budget.spend();
                Err(Refusal::Panicked)
            }
        }
    }

    /// Adds to the text on its way into Lua; raises when it outgrows what Lua may
    /// use.
    pub(super) fn add_text(&mut self, state: State, bytes: &[u8]) {
        if self.text.len() + bytes.len() > TEXT_BYTES_MAX {
            // Given back at once: nothing else needs a text that long.
            self.text.clear();
            self.text.shrink_to(0);
            state.push_bytes(b"not enough memory");
            state.raise();
        }
        self.text.extend_from_slice(bytes);
    }

    /// True when a native function stands too deep in the thread's stack.
    pub(super) fn stack_is_deep(&self) -> bool {
        let here = 0_u8;
        self.stack_base.abs_diff((&raw const here).addr()) > C_STACK_BYTES_MAX
    }

    /// True when the call may not go on: its time is up, or somebody ended it.
    pub(super) fn is_over(&mut self) -> bool {
        if self.interrupter.was_called() {
            self.was_killed = true;
            self.budget.spend();
        }
        self.budget.is_spent()
    }

    /// Somebody was told that the call is ended. It is, whatever it was about to say.
    pub(super) fn kill(&mut self) {
        if !self.was_killed {
            self.was_killed = true;
            self.budget.spend();
            self.failure = Some([b"ERR ", self.last_words().as_bytes()].concat());
            self.failure_line = None;
        }
    }

    /// What a script is told that may not go on. It cannot catch it.
    pub(super) fn last_words(&self) -> &'static str {
        match self.was_killed {
            false => "time budget used up",
            true => "Script killed by user with SCRIPT KILL...",
        }
    }

    fn check_time(&mut self) -> Result<(), Refusal> {
        self.command_count = self.command_count.wrapping_add(1);
        if self.command_count.is_multiple_of(COMMANDS_PER_CHECK) && self.is_over() {
            return Err(Refusal::Over);
        }
        Ok(())
    }
}

const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";

const UNKNOWN: &str = "ERR Unknown Redis command called from script";

const NOT_TEXT: &str = "ERR Lua redis lib command arguments must be strings or integers";

/// Redis looks at the types of all arguments before it looks up the command.
fn why_unknown(state: State, arg_count: i32) -> &'static str {
    if (1..=arg_count).any(|index| state.argument(index).is_none()) {
        return NOT_TEXT;
    }
    let name = state.bytes(1);
    match NOT_FOR_SCRIPTS.split_whitespace().any(|it| it.as_bytes().eq_ignore_ascii_case(name)) {
        true => NOT_ALLOWED,
        false => UNKNOWN,
    }
}

fn check_allowed(
    command: &'static Command,
    args: &[Arg<'_>],
    read_only: bool,
) -> Result<(), Refusal> {
    let command = command.resolve(args).map_err(|error| match error {
        CommandError::UnknownSubcommand { .. } => Refusal::Script(UNKNOWN),
        _ => Refusal::Script("ERR Wrong number of args calling Redis command from script"),
    })?;
    if command.flags.contains(Flags::NOSCRIPT) {
        return Err(Refusal::Script(NOT_ALLOWED));
    }
    if read_only && command.may_write() {
        return Err(Refusal::Script("ERR Write commands are not allowed from read-only scripts."));
    }
    Ok(())
}

/// Commands of Redis that the keyspace does not know and that no script may call.
/// Others that it does not know are answered as unknown.
const NOT_FOR_SCRIPTS: &str = "acl auth bgrewriteaof bgsave blmove blpop brpop brpoplpush bzpopmax \
    bzpopmin client config debug discard eval eval_ro evalsha evalsha_ro exec failover fcall \
    fcall_ro function hello latency module monitor multi psubscribe psync punsubscribe quit \
    replconf replicaof reset role save script shutdown slaveof ssubscribe subscribe sunsubscribe \
    sync unsubscribe unwatch wait watch";

/// Time that a run of Lua may take.
///
/// The clock is read for the first time when somebody first asks: the watchdog's
/// hook, a long row of commands, a function that walks much memory. Short runs
/// never read it.
#[derive(Debug)]
pub(super) struct Budget {
    limit: Duration,
    watch: Option<WorkStopwatch>,
    spent: bool,
}

impl Budget {
    fn new(limit: Duration) -> Budget {
        Budget { limit, watch: None, spent: false }
    }

    /// Looks at the clock. Once spent, a budget stays spent.
    pub(super) fn is_spent(&mut self) -> bool {
        let watch = self.watch.get_or_insert_with(WorkStopwatch::start);
        self.spent = self.spent || watch.elapsed() > self.limit;
        self.spent
    }

    /// True when the run was ended for its time; does not look at the clock.
    pub(super) fn was_spent(&self) -> bool {
        self.spent
    }

    fn spend(&mut self) {
        self.spent = true;
    }
}

/// Finds commands by the address of their name.
///
/// Lua interns strings: equal texts have one address while they live. A name
/// that was found once is anchored, so that it lives as long as the engine, and
/// its address then stands for the command. Places are few and never replaced,
/// so a script cannot make this grow; what finds no place is looked up by text.
pub(super) struct CommandCache {
    places: [Option<(usize, &'static Command)>; CommandCache::PLACE_COUNT],
}

impl CommandCache {
    const PLACE_COUNT: usize = 256;
    const PROBE_COUNT: usize = 4;

    fn new() -> CommandCache {
        CommandCache { places: [None; CommandCache::PLACE_COUNT] }
    }

    /// The command named by the string at index 1. May raise, when it anchors.
    fn find(&mut self, state: State) -> Option<&'static Command> {
        let name = state.bytes(1);
        let address = name.as_ptr().addr();
        for place in Self::places_of(address) {
            match self.places[place] {
                Some((known, command)) if known == address => return Some(command),
                Some(_) => {}
                None => {
                    let command = keyspace::command(name)?;
                    state.push_copy(1);
                    state.anchor();
                    self.places[place] = Some((address, command));
                    return Some(command);
                }
            }
        }
        keyspace::command(name)
    }

    fn places_of(address: usize) -> impl Iterator<Item = usize> {
        // Lua's strings are allocated in steps of 16 bytes.
        let first = (address >> 4) ^ (address >> 12);
        (first..first + Self::PROBE_COUNT).map(|place| place % Self::PLACE_COUNT)
    }
}

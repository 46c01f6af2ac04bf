//! The engine: which library or script a call goes to, and what it may use.
//!
//! Each library runs in a Lua state of its own and all scripts in one (`vm`), one call
//! at a time. What libraries hold and how they are named is in `library`, scripts are
//! in `script`, the commands that clients send in `commands`.

#![allow(unsafe_code, reason = "says that an engine may move to another thread")]

use std::time::Duration;

use super::context::Origin;
use super::error::{CallError, Callee, Error, Overrun};
use super::library::{Flags, Library, Names, Target};
use super::metrics::{Meter, Metrics};
use super::random::Random;
use super::raw::Anchor;
use super::script::{Scripts, Sha};
use super::vm::{Fault, Job, Scene, Vm};
use super::watchdog::{Interrupter, Kind, LONG, Watchdog};
use crate::base::clock::Stopwatch;
use crate::keyspace::{self, Execution, Keyspace};

/// What Lua may use. Time is work of the thread that calls: a call is not ended
/// because the machine gave its core to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for one call of [`Engine::call`]. The watchdog looks twice in this
    /// time or oftener, and a call is ended after one to two of it.
    pub call_time_max: Duration,
    /// Time for one call of a client's command: `busy-reply-threshold`. `None`
    /// never ends one.
    pub command_time_max: Option<Duration>,
    /// Time for the top level of a library.
    pub load_time_max: Duration,
    /// Memory of one library, and of all scripts together: what a call may use,
    /// and what a library may keep. An idle one's 200 KiB are included.
    pub memory_bytes_max: u64,
}

impl Limits {
    /// 5 ms a call, Redis' 5 s a command and 500 ms a load, 64 MiB.
    pub const DEFAULT: Limits = Limits {
        call_time_max: Duration::from_millis(5),
        command_time_max: Some(Duration::from_secs(5)),
        load_time_max: Duration::from_millis(500),
        memory_bytes_max: 64 << 20,
    };

    /// How often the watchdog looks.
    fn watch_period(&self) -> Duration {
        (self.call_time_max / 2).clamp(WATCH_PERIOD_MIN, LONG)
    }
}

/// The watchdog looks no more often than this, and no less often than [`LONG`].
const WATCH_PERIOD_MIN: Duration = Duration::from_millis(1);

/// The Lua engine. See the module's header.
#[derive(Debug)]
pub struct Engine {
    pub(super) watchdog: Watchdog,
    pub(super) limits: Limits,
    pub(super) libraries: Vec<Library>,
    /// By name, and by library and name; as registered.
    pub(super) names: Names,
    pub(super) script_vm: Vm,
    pub(super) scripts: Scripts,
    script_meter: Option<Meter>,
    pub(super) metrics: Option<Metrics>,
    /// One generator for all states, as in Redis.
    random: Random,
}

/// A Function or a script, and what it may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) what: What,
    /// A client asked for it, and clients may end it.
    pub(super) is_of_client: bool,
    pub(super) callback: Anchor,
    pub(super) read_only: bool,
    /// There is no memory for its first command that needs some.
    pub(super) is_full: bool,
    pub(super) time_max: Duration,
}

/// What is called: to be found, and to be named when it fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Function(Target),
    Script(Sha),
}

// SAFETY: nothing of Lua leaves the engine, so whoever holds `&mut Engine` is the
// only user of its states, on whatever thread. Lua keeps nothing in the thread; the
// reference counts inside of `Lua` are never shared. Pointers to keyspace and run
// are set only while a call has them borrowed.
unsafe impl Send for Engine {}

impl Engine {
    /// An engine without libraries.
    ///
    /// # Errors
    /// [`Error::Start`] when the memory limit is too small for Lua itself;
    /// [`Error::Watchdog`] when there is no thread to be had.
    pub fn new(limits: Limits) -> Result<Engine, Error> {
        let watchdog = Watchdog::start(limits.watch_period()).map_err(Error::Watchdog)?;
        let script_vm = Vm::new(limits.memory_bytes_max, watchdog.interrupter())
            .map_err(|error| Error::Start(error.to_string()))?;
        Ok(Engine {
            watchdog,
            limits,
            libraries: Vec::new(),
            names: Names::default(),
            script_vm,
            scripts: Scripts::default(),
            script_meter: None,
            metrics: None,
            random: Random::new(),
        })
    }

    /// From here on calls are counted and timed.
    pub fn measure(&mut self, metrics: Metrics) {
        self.script_meter = Some(metrics.scripts());
        self.metrics = Some(metrics);
        self.name_all();
    }

    /// Hands to Prometheus what was counted since the last time.
    pub fn show_metrics(&mut self) {
        let of_functions = self.libraries.iter_mut().flat_map(|it| &mut it.functions);
        let meters = of_functions.filter_map(|it| it.meter.as_mut());
        meters.chain(&mut self.script_meter).for_each(Meter::show);
    }

    /// Puts other limits in force, for what runs from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.watchdog.look_every(limits.watch_period());
        let of_libraries = self.libraries.iter_mut().map(|it| &mut it.vm);
        for vm in of_libraries.chain([&mut self.script_vm]) {
            vm.set_memory_max(limits.memory_bytes_max);
        }
    }

    /// What calls and loads may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The way to end a call while it runs.
    pub fn interrupter(&self) -> Interrupter {
        self.watchdog.interrupter()
    }

    /// Calls `function` with its keys and arguments, within the time of a policy's
    /// call. Its reply is then in `run.reply`, behind what was there; commands that
    /// it called stand in `run.effects`.
    ///
    /// The name is the Function's, in any case as Redis has it, or the library's
    /// and the Function's: `limiter.decide`. Libraries of files are asked first,
    /// those of clients then.
    ///
    /// # Errors
    /// [`CallError`]. What the call wrote before is not undone here.
    pub fn call(
        &mut self,
        function: &str,
        keys: &[&[u8]],
        args: &[&[u8]],
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
    ) -> Result<(), CallError> {
        let target = self.names.for_policies(function).ok_or(CallError::NotFound)?;
        let function = self.function(target);
        permit(function.flags, run)?;
        let task = Task {
            what: What::Function(target),
            is_of_client: false,
            callback: function.callback,
            read_only: function.flags.no_writes(),
            is_full: false,
            time_max: self.limits.call_time_max,
        };
        self.perform(&task, keys, args, keyspace, run)
    }

    /// Runs a Function or a script to its end.
    pub(super) fn perform(
        &mut self,
        task: &Task,
        keys: &[&[u8]],
        args: &[&[u8]],
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
    ) -> Result<(), CallError> {
        let Task { what, is_of_client, callback, read_only, is_full, time_max } = *task;
        let (vm, meter, origin) = match what {
            What::Function(target) => {
                let library = &mut self.libraries[target.library_index];
                let meter = library.functions[target.function_index].meter.as_mut();
                (&mut library.vm, meter, Origin::Library)
            }
            What::Script(_) => (&mut self.script_vm, self.script_meter.as_mut(), Origin::Script),
        };
        let kind = match origin {
            _ if !is_of_client => Kind::Own,
            Origin::Library => Kind::Function,
            Origin::Script => Kind::Script,
        };
        let job = Job { origin, kind, callback, read_only, is_full, time_max };
        let scene = Scene { keys, args, keyspace, run, random: &mut self.random };
        let watch = meter.is_some().then(Stopwatch::start);
        let done = vm.call(&job, scene, &self.watchdog);
        if let (Some(meter), Some(watch)) = (meter, watch) {
            meter.called(watch.elapsed(), done.err());
        }
        done.map_err(|fault| self.call_error(fault, task))
    }

    /// What became of a call that did not end well.
    fn call_error(&mut self, fault: Fault, task: &Task) -> CallError {
        let (vm, callee) = match task.what {
            What::Function(target) => {
                let callee = Callee::Function(self.function(target).name.clone());
                (&mut self.libraries[target.library_index].vm, callee)
            }
            What::Script(sha) => (&mut self.script_vm, Callee::Script(sha)),
        };
        let overrun = match fault {
            Fault::Raised => return CallError::Raised { line: vm.error_line(&callee) },
            Fault::Killed => return CallError::Killed { line: vm.error_line(&callee) },
            Fault::Time => Overrun::Time(task.time_max),
            Fault::Memory => Overrun::Memory(self.limits.memory_bytes_max),
        };
        CallError::Budget { callee, overrun }
    }
}

/// Lets what declares flags run, unless it may write while nothing may be written.
pub(super) fn permit(flags: Flags, run: &Execution<'_>) -> Result<(), CallError> {
    match flags.no_writes() {
        true => Ok(()),
        false => run.permit(keyspace::Flags::WRITE).map_err(CallError::Denied),
    }
}

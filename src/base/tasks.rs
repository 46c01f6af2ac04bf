//! Every background task and thread of the process, by name, and how they end.
//!
//! Nothing is spawned except through here, so nothing outlives
//! [`Tasks::drain`]. A task is handed the shutdown token and must heed it; a
//! thread is joined by whoever holds its handle.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The kernel weighs it with 110, where a thread of niceness 0 has 1024.
const PATIENT_NICENESS: i32 = 10;

/// The tasks of a process (or of a test), and the way to end them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    shutdown: CancellationToken,
    running: TaskTracker,
}

/// How [`Tasks::drain`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every task ended by itself.
    Clean,
    /// The grace period ran out.
    TimedOut {
        /// Tasks that had not ended.
        still_running: usize,
    },
}

impl Tasks {
    /// Spawns a task on the current runtime. It is handed the shutdown token.
    pub fn spawn<F>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let future = task(self.shutdown.child_token());
        #[expect(clippy::disallowed_methods, reason = "the one spawner")]
        self.running.spawn(async move {
            future.await;
            tracing::debug!(task = name, "task ended");
        });
    }

    /// Spawns a task on the current thread's `LocalRuntime`: a connection of a
    /// worker, which never moves to another core.
    pub fn spawn_local<F>(&self, task: F)
    where
        F: Future<Output = ()> + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "the one spawner")]
        self.running.spawn_local(task);
    }

    /// The token that tells tasks to end.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.child_token()
    }

    /// Asks every task to end and waits, but no longer than `grace`.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.shutdown.cancel();
        self.running.close();
        match time::timeout(grace, self.running.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_elapsed) => Drained::TimedOut { still_running: self.running.len() },
        }
    }
}

/// Starts a named thread. Whoever holds the handle joins it.
///
/// # Errors
/// The operating system refused a thread.
pub fn spawn_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    #[expect(clippy::disallowed_methods, reason = "the one spawner")]
    std::thread::Builder::new().name(format!("weir-{name}")).spawn(body)
}

/// Starts a named thread for work that can wait: where cores are short, it gets a tenth
/// of what a thread gets that somebody waits for. It must not hold a lock for long that
/// such a thread wants.
///
/// # Errors
/// The operating system refused a thread.
pub fn spawn_patient_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_thread(name, move || {
        // On Linux a thread has a priority of its own. Without it the work is done too.
        let _ = setpriority_process(None, PATIENT_NICENESS);
        body()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_that_heed_the_token() {
        let tasks = Tasks::default();
        tasks.spawn("heeds", |shutdown| async move { shutdown.cancelled().await });
        assert_eq!(tasks.drain(Duration::from_secs(1)).await, Drained::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_gives_up_on_tasks_that_do_not() {
        let tasks = Tasks::default();
        tasks.spawn("stubborn", |_shutdown| std::future::pending());
        let drained = tasks.drain(Duration::from_secs(1)).await;
        assert_eq!(drained, Drained::TimedOut { still_running: 1 });
    }
}

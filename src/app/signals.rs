//! Signals: `SIGTERM` and `SIGINT` end the process, `SIGHUP` reloads policies.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Error;

/// The signals that the process heeds.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers; from here on no signal is lost.
    pub fn install() -> Result<Signals, Error> {
        let install = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Signals {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hang_up: install(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the process; meanwhile each `SIGHUP` is
    /// passed on to `nudge`.
    pub async fn wait(&mut self, nudge: &mpsc::Sender<()>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    // Full means that a reload is due anyway.
                    let _ = nudge.try_send(());
                }
            }
        }
    }
}

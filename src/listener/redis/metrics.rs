//! What the redis door tells Prometheus: what it counts anyway, read when asked.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::Server;

/// Registers the families of `server`.
///
/// # Errors
/// They are registered already.
pub fn register(server: &Arc<Server>, registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(Families::new(Arc::downgrade(server))?))
}

/// How long who asks for metrics waits for the keyspace; longer than a batch takes.
const PATIENCE: Duration = Duration::from_millis(5);

struct Families {
    server: Weak<Server>,
    connected: IntGauge,
    connections: IntCounterVec,
    commands: IntCounterVec,
    errors: IntCounter,
    overflows: IntCounter,
    long_holds: IntCounter,
    bytes: IntCounterVec,
}

impl Families {
    fn new(server: Weak<Server>) -> Result<Families, prometheus::Error> {
        let labelled = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        Ok(Families {
            server,
            connected: IntGauge::new(
                "weir_redis_connected_clients",
                "Connections of Redis clients",
            )?,
            connections: labelled(
                "weir_redis_connections_total",
                "Connections of Redis clients, accepted and refused",
                "outcome",
            )?,
            commands: labelled(
                "weir_redis_commands_total",
                "Commands run for Redis clients, by kind",
                "group",
            )?,
            errors: IntCounter::new("weir_redis_errors_total", "Error replies to Redis clients")?,
            overflows: IntCounter::new(
                "weir_redis_overflows_total",
                "Redis clients that were dropped because they did not read",
            )?,
            long_holds: IntCounter::new(
                "weir_redis_long_holds_total",
                "Times that Redis clients held the keyspace for longer than decisions wait",
            )?,
            bytes: labelled(
                "weir_redis_bytes_total",
                "Bytes read from and written to Redis clients",
                "direction",
            )?,
        })
    }

    fn parts(&self) -> [&dyn Collector; 7] {
        [
            &self.connected,
            &self.connections,
            &self.commands,
            &self.errors,
            &self.overflows,
            &self.long_holds,
            &self.bytes,
        ]
    }

    /// Brings the families up to what the server has counted.
    fn refresh(&self, server: &Server) {
        // `CONFIG RESETSTAT` begins these anew, which Prometheus allows for.
        let add = |family: &IntCounterVec, label: &str, count: u64| {
            family.with_label_values(&[label]).inc_by(count);
        };
        let fates = &server.clients.fates;
        self.connected.set(i64::try_from(server.clients.len()).unwrap_or(i64::MAX));
        self.connections.reset();
        add(&self.connections, "accepted", fates.accepted.get());
        add(&self.connections, "refused", fates.refused.get());
        self.overflows.reset();
        self.overflows.inc_by(fates.overflowed.get());
        // While a call runs for long, what it will have counted is not there yet.
        let Some(records) = server.records_soon(PATIENCE) else { return };
        let counts = &records.counts;
        self.commands.reset();
        self.bytes.reset();
        self.errors.reset();
        self.long_holds.reset();
        add(&self.bytes, "read", counts.input_bytes);
        add(&self.bytes, "written", counts.output_bytes);
        for (entry, command) in counts.commands() {
            add(&self.commands, entry.group, command.calls);
        }
        self.errors.inc_by(counts.errors.values().sum());
        self.long_holds.inc_by(counts.long_holds);
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(server) = self.server.upgrade() {
            self.refresh(&server);
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

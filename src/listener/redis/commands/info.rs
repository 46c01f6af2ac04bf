//! `INFO`: how the server fares, as text, in the sections and fields that clients
//! and dashboards read.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::base::process;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[("info", info)];

/// One section.
type Write = fn(&mut Turn<'_, '_>, &mut Fields);

/// Sections in the order in which they are told; the last are told when asked.
const SECTIONS: [(&str, Write); 12] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Modules", |_, _| {}),
    ("Errorstats", errors),
    ("Cluster", |_, fields| fields.add("cluster_enabled", 0)),
    ("Keyspace", keyspace),
    ("Commandstats", commands),
];

/// Told only when asked for, or with `all`.
const EXTRA: &str = "Commandstats";

/// `INFO [section …]`
fn info(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let asked: Vec<Vec<u8>> = args[1..].iter().map(|it| it.to_ascii_lowercase()).collect();
    let is_asked = |word: &str| asked.iter().any(|it| it == word.to_ascii_lowercase().as_bytes());
    let wants_all = is_asked("all") || is_asked("everything");
    let wants_default = asked.is_empty() || is_asked("default");
    let mut text = Fields(String::new());
    for (name, write) in SECTIONS {
        if wants_all || is_asked(name) || (wants_default && name != EXTRA) {
            if !text.0.is_empty() {
                text.0.push_str("\r\n");
            }
            let _ = write!(text.0, "# {name}\r\n");
            write(turn, &mut text);
        }
    }
    turn.reply.verbatim(*b"txt", text.0.as_bytes());
}

/// Lines of `name:value`.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A number of bytes, and the same for people.
    fn add_bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

/// `2.71M`, as Redis shows bytes to people.
fn human(bytes: u64) -> String {
    let units = [("T", 1_u64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn server(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    let now = turn.held.now();
    let uptime = now.since(turn.server.since).as_secs();
    fields.add("redis_version", super::REDIS_VERSION);
    fields.add("weir_version", env!("CARGO_PKG_VERSION"));
    fields.add("redis_mode", "standalone");
    fields.add("os", std::env::consts::OS);
    fields.add("arch_bits", usize::BITS);
    fields.add("process_id", std::process::id());
    fields.add("run_id", &turn.server.run_id);
    fields.add("tcp_port", turn.session.client.local.port());
    fields.add("server_time_usec", now.micros());
    fields.add("uptime_in_seconds", uptime);
    fields.add("uptime_in_days", uptime / 86_400);
    fields.add("hz", 10);
    fields.add("configured_hz", 10);
    fields.add("io_threads_active", 0);
}

fn clients(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    fields.add("connected_clients", turn.server.clients.len());
    fields.add("cluster_connections", 0);
    fields.add("maxclients", turn.settings.client_count_max);
    fields.add("blocked_clients", 0);
    fields.add("tracking_clients", 0);
    fields.add("clients_in_timeout_table", 0);
}

fn memory(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    let stats = turn.held.keyspace().stats();
    let used = stats.used_bytes as u64;
    let resident = process::resident_bytes();
    let limits = *turn.held.keyspace().memory_limits();
    fields.add_bytes("used_memory", used);
    fields.add_bytes("used_memory_peak", stats.peak_bytes as u64);
    fields.add_bytes("used_memory_rss", resident);
    fields.add("used_memory_dataset", used);
    fields.add_bytes("total_system_memory", process::machine_bytes());
    fields.add_bytes("maxmemory", limits.maxmemory);
    fields.add("maxmemory_policy", limits.policy.name());
    fields.add(
        "mem_fragmentation_ratio",
        format_args!("{:.2}", resident as f64 / used.max(1) as f64),
    );
    fields.add("mem_allocator", "mimalloc");
    fields.add("active_defrag_running", 0);
}

fn persistence(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    fields.add("loading", 0);
    fields.add("async_loading", 0);
    let status = turn.server.store.log().map(|log| log.status());
    let word = |ok: bool| if ok { "ok" } else { "err" };
    let seconds = |it: Option<Duration>| it.map_or(-1, |it| it.as_secs() as i64);
    if let Some(status) = &status {
        fields.add("rdb_changes_since_last_save", status.changes_since_save);
        fields.add("rdb_bgsave_in_progress", u8::from(status.save_running));
        fields.add("rdb_last_save_time", status.last_save.seconds());
        fields.add("rdb_last_bgsave_status", word(status.last_save_succeeded));
        fields.add("rdb_last_bgsave_time_sec", seconds(status.last_save_duration));
        fields.add("rdb_current_bgsave_time_sec", seconds(status.current_save_duration));
        fields.add("rdb_saves", status.save_count);
    }
    fields.add("aof_enabled", u8::from(status.is_some()));
    let Some(status) = status else { return };
    fields.add("aof_rewrite_in_progress", u8::from(status.rewrite_running));
    fields.add("aof_rewrite_scheduled", u8::from(status.rewrite_requested));
    fields.add("aof_last_rewrite_time_sec", seconds(status.last_rewrite_duration));
    fields.add("aof_current_rewrite_time_sec", seconds(status.current_rewrite_duration));
    fields.add("aof_last_bgrewrite_status", word(status.last_rewrite_succeeded));
    fields.add("aof_rewrites", status.rewrite_count);
    fields.add("aof_rewrites_consecutive_failures", status.rewrite_failure_count);
    fields.add("aof_last_write_status", word(status.failed.is_none()));
    fields.add("aof_current_size", status.log_size);
    fields.add("aof_base_size", status.base_size);
    fields.add("aof_pending_rewrite", 0);
    fields.add("aof_buffer_length", status.unwritten_bytes);
    fields.add("aof_pending_bio_fsync", u8::from(status.unsynced_bytes > 0));
    fields.add("aof_delayed_fsync", status.delayed_sync_count);
}

fn stats(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    let per_second = turn.records.pace.measure(turn.held.now(), turn.records.counts.commands);
    let (counts, fates) = (&turn.records.counts, &turn.server.clients.fates);
    fields.add("total_connections_received", fates.accepted.get());
    fields.add("total_commands_processed", counts.commands);
    fields.add("instantaneous_ops_per_sec", per_second);
    fields.add("total_net_input_bytes", counts.input_bytes);
    fields.add("total_net_output_bytes", counts.output_bytes);
    fields.add("rejected_connections", fates.refused.get());
    fields.add("weir_output_limit_disconnections", fates.overflowed.get());
    fields.add("total_error_replies", counts.errors.values().sum::<u64>());
    let before = counts.before;
    let keyspace = turn.held.keyspace();
    let now = keyspace.stats();
    fields.add("expired_keys", now.expired_count - before.expired_count);
    fields.add("evicted_keys", now.evicted_count - before.evicted_count);
    fields.add("keyspace_hits", now.hit_count - before.hit_count);
    fields.add("keyspace_misses", now.miss_count - before.miss_count);
    let channels = keyspace.channels();
    fields.add("pubsub_channels", channels.names(crate::keyspace::Ear::Channel, None).count());
    fields.add("pubsub_patterns", channels.pattern_count());
    fields.add("pubsubshard_channels", channels.names(crate::keyspace::Ear::Shard, None).count());
    fields.add("latest_fork_usec", 0);
    fields.add("total_forks", 0);
}

fn replication(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    fields.add("role", "master");
    fields.add("connected_slaves", 0);
    fields.add("master_failover_state", "no-failover");
    fields.add("master_replid", &turn.server.run_id);
    fields.add("master_repl_offset", 0);
    fields.add("second_repl_offset", -1);
    fields.add("repl_backlog_active", 0);
}

fn cpu(_: &mut Turn<'_, '_>, fields: &mut Fields) {
    let (system, user) = process::worked_seconds();
    fields.add("used_cpu_sys", format_args!("{system:.6}"));
    fields.add("used_cpu_user", format_args!("{user:.6}"));
    fields.add("used_cpu_sys_children", "0.000000");
    fields.add("used_cpu_user_children", "0.000000");
}

fn errors(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    for (word, count) in &turn.records.counts.errors {
        fields.add(&format!("errorstat_{word}"), format_args!("count={count}"));
    }
}

fn keyspace(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    let keyspace = turn.held.keyspace();
    if !keyspace.is_empty() {
        let (keys, expires) = (keyspace.len(), keyspace.stats().expiring);
        fields.add("db0", format_args!("keys={keys},expires={expires},avg_ttl=0"));
    }
}

fn commands(turn: &mut Turn<'_, '_>, fields: &mut Fields) {
    for (entry, counts) in turn.records.counts.commands() {
        let per_call = counts.usec as f64 / counts.calls.max(1) as f64;
        fields.add(
            &format!("cmdstat_{}", entry.full_name),
            format_args!(
                "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                counts.calls, counts.usec, counts.rejected, counts.failed
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_to_people_as_redis_does() {
        for (bytes, shown) in [(0, "0B"), (512, "512B"), (34_816, "34.00K"), (2_846_272, "2.71M")] {
            assert_eq!(human(bytes), shown);
        }
    }
}

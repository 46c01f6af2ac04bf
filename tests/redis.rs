//! The redis door, spoken to over real sockets: what a client sends, and every
//! byte that it gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::LocalOptions;
use tokio_util::sync::CancellationToken;
use weir::base::clock::Clock;
use weir::base::tasks::{Tasks, spawn_thread};
use weir::base::yaml;
use weir::listener::accept;
use weir::listener::redis::{self, RawConfig};
use weir::persist;
use weir::store::{self, Embedded};

/// Nothing takes this long: what has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A door over a store, which has no log unless one is asked for.
struct Door {
    address: SocketAddr,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens a door with this section of a configuration.
    fn open(section: &str) -> Door {
        Door::open_over(None, section)
    }

    /// The same, over a store with a log in this folder.
    fn open_with_log(dir: &Path, section: &str) -> Door {
        let raw = persist::RawConfig { dir: dir.to_owned(), ..persist::RawConfig::default() };
        Door::open_over(Some(raw.check(Path::new("/weir.yaml"), "").unwrap()), section)
    }

    fn open_over(log: Option<persist::Config>, section: &str) -> Door {
        let raw = yaml::read::<RawConfig>("weir.yaml", section).unwrap().value;
        let registry = Registry::new();
        let metrics = store::Metrics::register(&registry).unwrap();
        let opened = Embedded::open(&[], log, Clock::system(), metrics, &mut |_| {}).unwrap();
        let end = CancellationToken::new();
        let commands = opened.store.commands();
        let (settings, plain) = (raw.check("redis").unwrap().settings, redis::Transport::Plain);
        let server = redis::Server::new(settings, plain, commands, end.clone(), &registry).unwrap();
        let bound = accept::bind("redis", "127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = bound.address;
        let socket = bound.sockets.into_iter().next().unwrap();
        let ended = end.clone();
        let thread = spawn_thread("test-door", move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build_local(LocalOptions::default());
            runtime.unwrap().block_on(async move {
                let tasks = Tasks::default();
                let serving = redis::serve(socket, Arc::clone(&server), &tasks);
                tokio::select! {
                    served = serving => served.unwrap(),
                    () = ended.cancelled() => {}
                }
                tasks.clone().drain(Duration::from_secs(5)).await;
            });
            opened.store.close().unwrap();
        });
        Door { address, end, thread: Some(thread.unwrap()) }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, unread: Vec::new() }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking());
        }
    }
}

/// A raw connection.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frames, line ends as blanks. What a test says does not come is shown by
    /// what comes in its place.
    #[track_caller]
    fn hears(&mut self, frame_count: usize) -> String {
        loop {
            let end = (0..frame_count).try_fold(0, |at, _| frame_end(&self.unread, at));
            if let Some(end) = end {
                return shown(&self.unread.drain(..end).collect::<Vec<_>>());
            }
            assert!(self.read(), "the connection ended after {:?}", shown(&self.unread));
        }
    }

    /// All that comes until the connection ends.
    fn hears_the_end(&mut self) -> String {
        while self.read() {}
        shown(&self.unread)
    }

    /// Reads what there is; false at the end of the connection.
    fn read(&mut self) -> bool {
        let mut part = [0; 65_536];
        match self.stream.read(&mut part) {
            Ok(len) => {
                self.unread.extend_from_slice(&part[..len]);
                len > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("silence"),
            Err(_reset) => false,
        }
    }

    /// Sends a line, and returns the frame that answers it.
    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.hears(1)
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", " ").trim_end().to_owned()
}

/// Where the frame that begins at `at` ends, if all of it is there.
fn frame_end(bytes: &[u8], at: usize) -> Option<usize> {
    let line = bytes.get(at..)?;
    let len = line.windows(2).position(|it| it == b"\r\n")?;
    let end = at + len + 2;
    let number = || std::str::from_utf8(&line[1..len]).unwrap().parse::<isize>().unwrap();
    let parts = match line[0] {
        b'$' | b'=' => {
            let text = usize::try_from(number()).map_or(end, |len| end + len + 2);
            return (text <= bytes.len()).then_some(text);
        }
        b'*' | b'~' | b'>' => number().max(0),
        b'%' => 2 * number(),
        _ => 0,
    };
    (0..parts).try_fold(end, |at, _| frame_end(bytes, at))
}

/// Asks until the answer is as wanted.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let tries = PATIENCE.as_millis() / 5;
    let came = (0..tries).any(|_| {
        is_so() || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }
    });
    assert!(came, "it did not come to that");
}

/// Runs lines on one connection; each stands before what it is answered.
#[track_caller]
fn check(section: &str, dialogue: &[(&str, &str)]) {
    let door = Door::open(section);
    let mut client = door.connect();
    for (line, expected) in dialogue {
        assert_eq!(client.ask(line), *expected, "{line}");
    }
}

#[test]
fn the_replies_of_a_pipeline_come_in_order() {
    let door = Door::open("{}");
    let mut client = door.connect();
    client.send(b"SET a 1\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\nGET a\r\nNOSUCH\r\nPING\r\n");
    let unknown = "-ERR unknown command 'NOSUCH', with args beginning with:";
    assert_eq!(client.hears(5), format!("+OK :2 $1 2 {unknown}  +PONG"));
    let long: String = (0..500).map(|_| "INCR n\r\n").collect();
    client.send(long.as_bytes());
    assert!(client.hears(500).ends_with(":499 :500"));
}

#[test]
fn a_transaction_runs_whole_or_not_at_all() {
    check(
        "{}",
        &[
            ("EXEC", "-ERR EXEC without MULTI"),
            ("MULTI", "+OK"),
            ("MULTI", "-ERR MULTI calls can not be nested"),
            ("SET a 1", "+QUEUED"),
            ("ZADD a 1 x", "+QUEUED"),
            ("INCR a", "+QUEUED"),
            (
                "EXEC",
                "*3 +OK -WRONGTYPE Operation against a key holding the wrong kind of value :2",
            ),
            ("MULTI", "+OK"),
            ("GET", "-ERR wrong number of arguments for 'get' command"),
            ("SET a 9", "+QUEUED"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
            ("GET a", "$1 2"),
            ("MULTI", "+OK"),
            ("SHUTDOWN", "-ERR Command not allowed inside a transaction"),
            ("DISCARD", "+OK"),
        ],
    );
}

#[test]
fn a_watched_key_that_changes_fails_the_transaction() {
    let door = Door::open("{}");
    let (mut one, mut other) = (door.connect(), door.connect());
    for (touch, expected) in [("GET a", "*1 +OK"), ("SET a 1", "*-1"), ("DEL a", "*-1")] {
        one.ask("WATCH a");
        other.ask(touch);
        one.ask("MULTI");
        one.ask("SET b 1");
        assert_eq!(one.ask("EXEC"), expected, "{touch}");
    }
    one.ask("WATCH a");
    other.ask("SET a 2");
    one.ask("UNWATCH");
    one.ask("MULTI");
    assert_eq!(one.ask("EXEC"), "*0");
    one.ask("MULTI");
    assert_eq!(one.ask("WATCH a"), "-ERR WATCH inside MULTI is not allowed");
}

#[test]
fn messages_reach_those_who_listen_and_nobody_else() {
    let door = Door::open("{}");
    let (mut listener, mut publisher) = (door.connect(), door.connect());
    assert_eq!(listener.ask("SUBSCRIBE a"), "*3 $9 subscribe $1 a :1");
    assert_eq!(listener.ask("PSUBSCRIBE ?"), "*3 $10 psubscribe $1 ? :2");
    assert_eq!(publisher.ask("PUBLISH a hi"), ":2");
    assert_eq!(listener.hears(2), "*3 $7 message $1 a $2 hi *4 $8 pmessage $1 ? $1 a $2 hi");
    assert_eq!(publisher.ask("PUBLISH other hi"), ":0");
    assert_eq!(
        listener.ask("GET a"),
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context"
    );
    assert_eq!(listener.ask("PING"), "*2 $4 pong $0");
    assert_eq!(listener.ask("UNSUBSCRIBE"), "*3 $11 unsubscribe $1 a :1");
    assert_eq!(listener.ask("RESET"), "+RESET");
    assert_eq!(publisher.ask("PUBSUB NUMPAT"), ":0");
}

#[test]
fn in_resp3_messages_are_pushed_between_replies() {
    let door = Door::open("{}");
    let mut client = door.connect();
    assert!(client.ask("HELLO 3").starts_with("%7 $6 server"));
    client.ask("SUBSCRIBE a");
    client.send(b"PUBLISH a hi\r\n");
    assert_eq!(client.hears(2), ">3 $7 message $1 a $2 hi :1");
    assert_eq!(client.ask("GET nosuch"), "_");
}

#[test]
fn keyspace_events_are_told_when_asked_for() {
    let door = Door::open("{}");
    let (mut listener, mut client) = (door.connect(), door.connect());
    listener.ask("PSUBSCRIBE __key*");
    client.ask("SET a 1");
    assert_eq!(client.ask("CONFIG SET notify-keyspace-events KEA"), "+OK");
    client.ask("SET a 1");
    let told = listener.hears(2);
    assert!(told.contains("__keyspace@0__:a $3 set"), "{told}");
    assert!(told.contains("__keyevent@0__:set $1 a"), "{told}");
    client.send(b"MULTI\r\nPUBLISH __key hi\r\nDEL a\r\nEXEC\r\n");
    client.hears(4);
    let told = listener.hears(3);
    let (message, event) = (told.find("$2 hi").unwrap(), told.find("$3 del").unwrap());
    assert!(message < event, "out of order: {told}");
}

#[test]
fn a_stranger_gets_nothing_before_the_password() {
    check(
        "{ requirepass: secret }",
        &[
            ("GET a", "-NOAUTH Authentication required."),
            ("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("AUTH other secret", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("AUTH secret", "+OK"),
            ("GET a", "$-1"),
            ("RESET", "+RESET"),
            ("GET a", "-NOAUTH Authentication required."),
        ],
    );
    let door = Door::open("{ requirepass: secret }");
    let mut client = door.connect();
    client.send(b"*11\r\n");
    assert_eq!(client.hears_the_end(), "-ERR Protocol error: unauthenticated multibulk length");
    assert!(door.connect().ask("HELLO 3 AUTH default secret").starts_with("%7"));
}

#[test]
fn what_is_no_redis_client_is_closed() {
    let door = Door::open("{}");
    for (line, expected) in [
        ("POST / HTTP/1.1", ""),
        ("Host: here", ""),
        ("*x", "-ERR Protocol error: invalid multibulk length"),
        ("GET \"a", "-ERR Protocol error: unbalanced quotes in request"),
        ("QUIT", "+OK"),
    ] {
        let mut client = door.connect();
        client.send(format!("{line}\r\n").as_bytes());
        assert_eq!(client.hears_the_end(), expected, "{line}");
    }
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let door = Door::open("{ maxclients: 1 }");
    let mut first = door.connect();
    assert_eq!(first.ask("PING"), "+PONG");
    assert_eq!(door.connect().hears_the_end(), "-ERR max number of clients reached");
    first.send(b"QUIT\r\n");
    assert_eq!(first.hears_the_end(), "+OK");
    until(|| door.connect().ask("PING") == "+PONG");
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let door = Door::open("{ client_output_limit: 1MiB }");
    let mut client = door.connect();
    let value = "x".repeat(100_000);
    client.ask(&format!("SET a {value}"));
    let greedy: String = (0..500).map(|_| "GET a\r\n").collect();
    client.send(greedy.as_bytes());
    let mut other = door.connect();
    until(|| other.ask("CLIENT LIST").matches(" addr=").count() == 1);
    assert!(other.ask("INFO stats").contains("weir_output_limit_disconnections:1"));
}

#[test]
fn a_client_may_read_after_a_long_pipeline() {
    let door = Door::open("{}");
    let mut client = door.connect();
    let value = "x".repeat(1_000);
    client.ask(&format!("SET a {value}"));
    let pipeline: String = (0..20_000).map(|_| "GET a\r\n").collect();
    client.send(pipeline.as_bytes());
    let replies = client.hears(20_000);
    assert_eq!(replies.matches("$1000").count(), 20_000);
}

#[test]
fn clients_are_ended_and_paused_by_others() {
    let door = Door::open("{}");
    let (mut one, mut other) = (door.connect(), door.connect());
    one.ask("CLIENT SETNAME one");
    assert!(other.ask("CLIENT LIST").contains("name=one"));
    assert_eq!(other.ask("CLIENT PAUSE 60000 WRITE"), "+OK");
    assert_eq!(one.ask("GET a"), "$-1");
    one.send(b"SET a 1\r\n");
    // It has come, and waits.
    until(|| other.ask("CLIENT LIST").contains(" qbuf=9 "));
    assert_eq!(other.ask("GET a"), "$-1");
    assert_eq!(other.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(one.hears(1), "+OK");
    assert_eq!(other.ask("CLIENT KILL ID 1"), ":1");
    assert_eq!(one.hears_the_end(), "");
}

#[test]
fn a_client_that_waits_for_what_will_not_come_can_leave_and_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let door = Door::open_with_log(dir.path(), "{}");
    let mut other = door.connect();
    for end in ["leaves", "is ended", "is ended at the bound of what is read meanwhile"] {
        let mut client = door.connect();
        client.send(b"CLIENT SETNAME waits\r\nWAITAOF 0 1 0\r\n");
        if end.ends_with("meanwhile") {
            let pings = "PING\r\n".repeat(20_000);
            client.send(pings.as_bytes());
        }
        until(|| other.ask("CLIENT LIST").contains("name=waits"));
        match end {
            "leaves" => drop(client),
            _ => {
                let list = other.ask("CLIENT LIST");
                let line = list.split("id=").find(|it| it.contains("name=waits")).unwrap();
                let id = line.split(' ').next().unwrap();
                assert_eq!(other.ask(&format!("CLIENT KILL ID {id}")), ":1");
            }
        }
        until(|| !other.ask("CLIENT LIST").contains("name=waits"));
    }
}

#[test]
fn replies_can_be_switched_off() {
    let door = Door::open("{}");
    let mut client = door.connect();
    client.send(b"CLIENT REPLY SKIP\r\nECHO skipped\r\n");
    assert_eq!(client.ask("PING"), "+PONG");
    client.send(b"CLIENT REPLY OFF\r\nECHO unheard\r\n");
    assert_eq!(client.ask("CLIENT REPLY ON"), "+OK");
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn settings_change_together_or_not_at_all() {
    check(
        "{}",
        &[
            ("CONFIG SET maxmemory 1mb maxmemory-policy allkeys-lru", "+OK"),
            ("CONFIG GET maxmemory*policy", "*2 $16 maxmemory-policy $11 allkeys-lru"),
            (
                "CONFIG SET maxmemory 2mb timeout x",
                "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument \
                 couldn't be parsed into an integer",
            ),
            ("CONFIG GET maxmemory", "*2 $9 maxmemory $7 1048576"),
            (
                "CONFIG SET nosuch 1",
                "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
            ),
        ],
    );
}

#[test]
fn settings_of_a_log_that_is_not_there_are_shown_and_not_changed() {
    check(
        "{}",
        &[
            (
                "CONFIG GET append*",
                "*8 $13 appenddirname $13 appendonlydir $14 appendfilename $14 appendonly.aof $11 appendfsync $8 everysec $10 appendonly $2 no",
            ),
            ("CONFIG SET save \"\"", "+OK"),
            (
                "CONFIG SET appendfsync always",
                "-ERR CONFIG SET failed (possibly related to argument 'appendfsync') - there is \
                 no log",
            ),
        ],
    );
}

#[test]
fn settings_of_the_log_hold_as_soon_as_they_are_changed() {
    let dir = tempfile::tempdir().unwrap();
    let door = Door::open_with_log(dir.path(), "{}");
    let mut client = door.connect();
    for (line, expected) in [
        ("CONFIG GET appendonly", "*2 $10 appendonly $3 yes"),
        ("CONFIG SET appendfsync always save \"3600 1\"", "+OK"),
        ("CONFIG GET appendfsync", "*2 $11 appendfsync $6 always"),
        ("CONFIG GET save", "*2 $4 save $6 3600 1"),
        ("SET a 1", "+OK"),
        // Under `always` what is answered is on disk already.
        ("WAITAOF 1 0 1", "*2 :1 :0"),
    ] {
        assert_eq!(client.ask(line), expected, "{line}");
    }
    let dir = dir.path().display().to_string();
    assert_eq!(client.ask("CONFIG GET dir"), format!("*2 $3 dir ${} {dir}", dir.len()));
}

#[test]
fn what_is_read_is_counted_until_the_counts_are_reset() {
    let door = Door::open("{}");
    let mut client = door.connect();
    client.send(b"SET a 1\r\nGET a\r\nEXISTS a b\r\nTTL b\r\n");
    client.hears(4);
    let stats = client.ask("INFO stats");
    assert!(stats.contains("keyspace_hits:2 keyspace_misses:2 "), "{stats}");
    assert_eq!(client.ask("CONFIG RESETSTAT"), "+OK");
    let stats = client.ask("INFO stats");
    assert!(stats.contains("keyspace_hits:0 keyspace_misses:0 "), "{stats}");
}

#[test]
fn subcommands_of_debug_that_do_not_fit_get_one_answer() {
    let refusal = "-ERR unknown subcommand or wrong number of arguments for";
    for part in ["SLEEP", "nosuch"] {
        let refusal = format!("{refusal} '{part}'. Try DEBUG HELP.");
        check("{}", &[(&format!("DEBUG {part}"), &refusal)]);
    }
}

#[test]
fn slow_commands_and_all_commands_can_be_seen() {
    let door = Door::open("{}");
    let (mut client, mut monitor) = (door.connect(), door.connect());
    client.ask("CONFIG SET slowlog-log-slower-than 0");
    assert_eq!(monitor.ask("MONITOR"), "+OK");
    client.ask("SET \"a b\" 1");
    // The client's first command came before; its second is shown.
    let shown = monitor.hears(1);
    assert!(shown.ends_with("\"SET\" \"a b\" \"1\""), "{shown}");
    assert!(client.ask("SLOWLOG GET 1").contains("*3 $3 SET $3 a b $1 1"));
    assert_eq!(client.ask("SLOWLOG RESET"), "+OK");
    assert!(client.ask("INFO commandstats").contains("cmdstat_set:calls=1"));
}

#[test]
fn what_is_left_out_is_refused_with_the_reason() {
    check(
        "{}",
        &[("XADD s * a 1", "-ERR unknown command 'xadd': Weir leaves out streams on purpose")],
    );
}

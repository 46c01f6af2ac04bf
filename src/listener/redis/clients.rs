//! All connections of the door, as others see them.
//!
//! A connection tells what is to be seen of it at the end of each batch; names
//! live here alone. What has come for it can be looked at from another thread, as
//! long as it is registered: its socket is open until its client was removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::FromRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::mailbox::End;
use crate::keyspace::Listener;

use super::kill::Heard;
use super::stream::{Look, Sealed};

/// As much of what has come for a client as is looked at.
const LOOK_BYTES: usize = 1 << 10;

/// One connection, as others see it.
#[derive(Debug)]
pub struct Client {
    /// Its number; never used twice.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Its file descriptor.
    pub descriptor: i32,
    /// When it was accepted.
    pub since: Timestamp,
    /// What others leave for it.
    pub listener: Arc<Listener>,
    /// Even when what was read of it ends with a whole request; every read and what
    /// follows moves it on.
    reads: AtomicU32,
    /// It owes nothing that it was asked, and can be silent.
    is_idle: AtomicBool,
    /// How to look at what has come for it; not known until hands are shaken.
    way_in: OnceLock<WayIn>,
    heard: Mutex<Heard>,
    shown: Mutex<Shown>,
}

/// How what has come for a connection can be looked at.
#[derive(Debug)]
pub enum WayIn {
    /// At the socket.
    Plain,
    /// Within TLS.
    Sealed(Sealed),
}

/// What a connection tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// `CLIENT SETNAME`.
    pub name: Box<str>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library_name: Box<str>,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: Box<str>,
    /// What changes from batch to batch.
    pub state: State,
    /// Since when it leaves more unread than it may for long.
    pub over_since: Option<Timestamp>,
}

/// What a connection tells after each batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// When it last sent something.
    pub active_at: Timestamp,
    /// Its last command; empty before the first.
    pub command: &'static str,
    /// Version of the protocol.
    pub resp: u8,
    /// Channels, patterns and shard channels it listens to.
    pub subscriptions: [usize; 3],
    /// Commands queued since `MULTI`; `None` outside a transaction.
    pub queued: Option<usize>,
    /// Bytes read and not answered.
    pub input_bytes: usize,
    /// Bytes answered and not written.
    pub output_bytes: usize,
    /// It is shown every command.
    pub is_monitor: bool,
    /// It asked not to be evicted.
    pub is_kept: bool,
    /// It has said who it is, or needed not.
    pub is_authenticated: bool,
}

/// The kinds of connections that `CLIENT LIST` and `CLIENT KILL` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither of the others.
    Normal,
    /// Listens to channels.
    Subscriber,
    /// There are none.
    Replica,
    /// There are none.
    Master,
}

impl Client {
    /// Its name and state, to look at or to change.
    pub fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its requests that were heard and are still to be read.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its own worker has answered everything, and shown it; or begins to answer.
    pub fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Release);
    }

    /// Whether all that was asked is answered. To be asked before what is shown.
    pub fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    /// Its own worker is about to read.
    pub fn will_read(&self) {
        // The system call behind it orders the two for others.
        self.reads.store(self.reads.load(Ordering::Relaxed) | 1, Ordering::Release);
    }

    /// What its own worker has read ends with a whole request.
    pub fn has_read_whole(&self) {
        let reads = self.reads.load(Ordering::Relaxed);
        self.reads.store(reads.wrapping_add(reads & 1), Ordering::Release);
    }

    /// From here on what comes for it can be looked at.
    pub fn open(&self, way_in: WayIn) {
        // A connection shakes hands once.
        let _ = self.way_in.set(way_in);
    }

    /// What has come for it and begins with a request, without taking it. Only while it
    /// is registered.
    fn peek<'a>(&self, room: &'a mut [u8]) -> Option<&'a [u8]> {
        let reads = self.reads.load(Ordering::Acquire);
        if reads % 2 == 1 {
            return None;
        }
        let len = match self.way_in.get()? {
            WayIn::Plain => {
                #[expect(unsafe_code, reason = "the socket belongs to another thread")]
                // SAFETY: the client is registered, so the descriptor is open; it is not
                // closed here.
                let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(self.descriptor) });
                stream.peek(room).ok()?
            }
            WayIn::Sealed(sealed) => match sealed.look(room)? {
                Ok(Look { len, has_taken }) => {
                    if has_taken {
                        self.listener.mailbox.nudge();
                    }
                    len
                }
                Err(_) => {
                    self.listener.mailbox.end(End::Killed);
                    return None;
                }
            },
        };
        (self.reads.load(Ordering::Acquire) == reads).then_some(&room[..len])
    }

    /// The line of `CLIENT LIST`, with its line end.
    pub fn describe(&self, now: Timestamp) -> String {
        let shown = self.shown();
        let state = &shown.state;
        let [sub, psub, ssub] = state.subscriptions;
        let mut line = format!(
            "id={} addr={} laddr={} fd={} name={} ",
            self.id, self.peer, self.local, self.descriptor, shown.name
        );
        let _ = write!(
            line,
            "age={} idle={} flags={} db=0 sub={sub} psub={psub} ssub={ssub} multi={} ",
            now.since(self.since).as_secs(),
            now.since(state.active_at).as_secs(),
            state.flags(),
            state.queued.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX)),
        );
        let (input, output) = (state.input_bytes, state.output_bytes);
        let total = input + output + size_of::<Client>();
        let _ = write!(
            line,
            "qbuf={input} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output} oll=0 \
             omem={output} tot-mem={total} events=r cmd={} user=default redir=-1 resp={} ",
            if state.command.is_empty() { "NULL" } else { state.command },
            state.resp,
        );
        let _ = writeln!(line, "lib-name={} lib-ver={}", shown.library_name, shown.library_version);
        line
    }
}

impl State {
    /// What kind of connection this is.
    pub fn kind(&self) -> Kind {
        if self.subscriptions == [0; 3] { Kind::Normal } else { Kind::Subscriber }
    }

    /// The letters of `CLIENT LIST`.
    fn flags(&self) -> String {
        let letters = [
            (self.is_monitor, 'O'),
            (self.kind() == Kind::Subscriber, 'P'),
            (self.queued.is_some(), 'x'),
            (self.is_kept, 'e'),
        ];
        let flags: String =
            letters.into_iter().filter(|(holds, _)| *holds).map(|(_, letter)| letter).collect();
        if flags.is_empty() { "N".to_owned() } else { flags }
    }
}

/// What befell connections since the start, or since `CONFIG RESETSTAT`.
#[derive(Debug, Default)]
pub struct Fates {
    /// Accepted.
    pub accepted: Fate,
    /// Refused for their number or where they come from.
    pub refused: Fate,
    /// Dropped because they did not read.
    pub overflowed: Fate,
}

impl Fates {
    /// Counts anew.
    pub fn reset(&self) {
        for fate in [&self.accepted, &self.refused, &self.overflowed] {
            fate.0.store(0, Ordering::Relaxed);
        }
    }
}

/// How many connections something befell.
#[derive(Debug, Default)]
pub struct Fate(AtomicU64);

impl Fate {
    /// It befell one more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections, by number.
#[derive(Debug, Default)]
pub struct Clients {
    /// Counted here and not among the records: no connection waits for the keyspace
    /// to begin or to end.
    pub fates: Fates,
    last_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Adds a connection.
    pub fn add(
        &self,
        (peer, local): (SocketAddr, SocketAddr),
        descriptor: i32,
        since: Timestamp,
    ) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let state = State { active_at: since, resp: 2, ..State::default() };
        let client = Client {
            id,
            peer,
            local,
            descriptor,
            since,
            listener: Arc::default(),
            reads: AtomicU32::new(0),
            is_idle: AtomicBool::new(false),
            way_in: OnceLock::new(),
            heard: Mutex::default(),
            shown: Mutex::new(Shown { state, ..Shown::default() }),
        };
        let client = Arc::new(client);
        self.lock().insert(id, Arc::clone(&client));
        client
    }

    /// Forgets a connection.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Every connection, the oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// Shows what has come for each client that is `wanted`, without taking it, and what
    /// was heard of it before.
    pub fn overhear(
        &self,
        wanted: impl Fn(&State) -> bool,
        mut show: impl FnMut(&[u8], &mut Heard),
    ) {
        let mut room = [0; LOOK_BYTES];
        let connected = self.lock();
        for client in connected.values().filter(|it| wanted(&it.shown().state)) {
            // Held before the look: nobody answers meanwhile what is seen.
            let mut heard = client.heard();
            if let Some(come) = client.peek(&mut room) {
                show(come, &mut heard);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What tests of the proxy stand on: a gateway, raw clients, and upstreams that
//! answer as they are told and remember what they saw.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;
use weir::base::clock::Clock;
use weir::base::tasks::{Drained, Tasks, spawn_thread};
use weir::limiter::{self, FailureMode, Limiter};
use weir::listener::accept;
use weir::listener::proxy::{self, Proxy, RawConfig};
use weir::policy::{self, Functions};
use weir::store::{self, Embedded, Library, Store};

/// Silence after which nothing more is expected on a connection.
const SILENCE: Duration = Duration::from_millis(300);

/// How long a drain may take.
const GRACE: Duration = Duration::from_secs(5);

/// Two requests to `/limited` for each client, for a time longer than any test.
const POLICIES: &str = "
policies:
  - name: two
    match: { path: /limited }
    key: [client_ip]
    limits: [{ quota: 2, window: 1h }]
";

/// A limiter over an embedded store without a log.
fn limiter(policies: &str, registry: &Registry) -> Arc<Limiter> {
    let code = include_str!("../../functions/limiter.lua").to_owned();
    let libraries = [Library { origin: "limiter.lua".to_owned(), code }];
    let metrics = store::Metrics::register(registry).unwrap();
    let opened = Embedded::open(&libraries, None, Clock::system(), metrics, &mut |_| {}).unwrap();
    let store = Store::Embedded(opened.store);
    let functions = Functions::new(store.functions());
    let policies =
        policy::compile("policies.yaml", policies, &functions, &|_| Err("no files".to_owned()))
            .unwrap();
    let metrics = limiter::Metrics::register(registry).unwrap();
    Arc::new(Limiter::new(store, policies, FailureMode::Open, metrics))
}

/// A proxy with one worker, on a port of its own. Drained when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Drained>>,
}

impl Gateway {
    /// A gateway that forwards everything to `upstream`.
    pub fn before(upstream: &Upstream) -> Gateway {
        Gateway::start(&format!(
            "upstreams: {{ up: {{ endpoints: ['http://{}'] }} }}\nroutes: [{{ upstream: up }}]",
            upstream.address
        ))
    }

    /// A gateway with the proxy's sections of a configuration.
    pub fn start(yaml: &str) -> Gateway {
        Gateway::under(POLICIES, yaml)
    }

    /// A gateway under policies of its own.
    pub fn under(policies: &str, yaml: &str) -> Gateway {
        let raw: RawConfig = serde_yaml::from_str(yaml).unwrap();
        let config = raw.check().unwrap();
        let registry = Registry::new();
        let proxy = Proxy::new(config, limiter(policies, &registry), &registry).unwrap();
        let bound = accept::bind("proxy", "127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = bound.address;
        let (stop, stopped) = oneshot::channel();
        let thread = spawn_thread("test-worker", move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build_local(LocalOptions::default());
            runtime.unwrap().block_on(async move {
                let tasks = Tasks::default();
                let socket = bound.sockets.into_iter().next().unwrap();
                let drain = async {
                    let _ = stopped.await;
                    tasks.clone().drain(GRACE).await
                };
                let (served, drained) = tokio::join!(proxy::serve(socket, proxy, &tasks), drain);
                served.unwrap();
                drained
            })
        });
        Gateway { address, registry, stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// One request on a connection of its own, and its response.
    pub fn ask(&self, raw: &str) -> Response {
        let mut client = self.connect();
        client.send(raw.as_bytes());
        client.response().expect("a response")
    }

    /// The value of a series, as Prometheus would scrape it.
    pub fn metric(&self, series: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// Asks the gateway to end, without waiting.
    pub fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }

    /// The way to ask it to end, for who is elsewhere by then.
    pub fn stopper(&mut self) -> oneshot::Sender<()> {
        self.stop.take().unwrap()
    }

    /// Waits until it has ended.
    pub fn drained(mut self) -> Drained {
        self.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// A downstream that sends exactly the bytes it is told to.
pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// Sends. A gateway that has closed already is no error.
    pub fn send(&mut self, raw: &[u8]) {
        let _ = self.stream.write_all(raw);
    }

    /// The next response; `None` when the connection ends or stays silent.
    pub fn response(&mut self) -> Option<Response> {
        self.response_to("")
    }

    /// The next response, to a request that begins with a method: that to a HEAD
    /// has no body.
    pub fn response_to(&mut self, method: &str) -> Option<Response> {
        let head_len = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            self.receive().ok().filter(|len| *len > 0)?;
        };
        let head = String::from_utf8(self.received.drain(..head_len).collect()).unwrap();
        let mut response = Response { head, body: Vec::new() };
        if response.status() == "100" || method.starts_with("HEAD") {
            return Some(response);
        }
        if response.field("transfer-encoding") == Some("chunked") {
            while find(&self.received, b"0\r\n\r\n").is_none() {
                self.receive().ok().filter(|len| *len > 0)?;
            }
            let end = find(&self.received, b"0\r\n\r\n").unwrap() + 5;
            response.body = self.received.drain(..end).collect();
        } else {
            let length = response.field("content-length").map_or(0, |it| it.parse().unwrap());
            while self.received.len() < length {
                self.receive().ok().filter(|len| *len > 0)?;
            }
            response.body = self.received.drain(..length).collect();
        }
        Some(response)
    }

    /// The statuses of all responses until silence or the end, and which it was.
    pub fn statuses(&mut self) -> (Vec<String>, bool) {
        let mut statuses = Vec::new();
        while let Some(response) = self.response() {
            statuses.push(response.status().to_owned());
            self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        }
        (statuses, self.is_closed())
    }

    /// True when the gateway ends the connection within the silence.
    pub fn is_closed(&mut self) -> bool {
        self.is_closed_within(SILENCE)
    }

    /// True when the gateway ends the connection within `span`.
    pub fn is_closed_within(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).unwrap();
        loop {
            match self.receive() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
    }

    fn receive(&mut self) -> std::io::Result<usize> {
        let mut buf = [0; 16 << 10];
        let len = self.stream.read(&mut buf)?;
        self.received.extend_from_slice(&buf[..len]);
        Ok(len)
    }
}

/// A response as it came.
#[derive(Debug)]
pub struct Response {
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of the first field of this (lower-case) name.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// What an upstream does with the connection after a request.
pub enum Next {
    /// Writes these bytes and reads the next request.
    Answer(Vec<u8>),
    /// Writes these bytes and closes.
    AnswerAndClose(Vec<u8>),
    /// Writes these bytes and resets the connection.
    AnswerAndReset(Vec<u8>),
    /// Writes these bytes and says nothing more.
    AnswerAndWait(Vec<u8>),
    /// Says nothing for so long, then closes.
    Silence(Duration),
}

/// A server that answers as it is told and remembers whole requests.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers every request with `response`.
    pub fn answering(response: &'static [u8]) -> Upstream {
        Upstream::doing(move |_| Next::Answer(response.to_vec()))
    }

    /// Does with every request what `script` says.
    pub fn doing(script: impl Fn(&Seen) -> Next + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicUsize::new(0));
        let (script, remembered) = (Arc::new(script), Arc::clone(&seen));
        let counted = Arc::clone(&ended);
        spawn_thread("test-upstream", move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&remembered));
                let ended = Arc::clone(&counted);
                let serve = move || {
                    serve(connection, stream.unwrap(), &*script, &seen);
                    ended.fetch_add(1, Ordering::SeqCst);
                };
                spawn_thread("test-upstream", serve).unwrap();
            }
        })
        .unwrap();
        Upstream { address, seen, ended }
    }

    /// Connections that have ended, whoever ended them.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// The requests that came, to the last byte, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    script: &dyn Fn(&Seen) -> Next,
    seen: &Mutex<Vec<Seen>>,
) {
    let mut received = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut received) {
        let request = Seen { connection, head, body };
        seen.lock().unwrap().push(request.clone());
        match script(&request) {
            Next::Answer(bytes) => drop(stream.write_all(&bytes)),
            Next::AnswerAndClose(bytes) => return drop(stream.write_all(&bytes)),
            Next::AnswerAndReset(bytes) => {
                let _ = stream.write_all(&bytes);
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            Next::AnswerAndWait(bytes) => {
                let _ = stream.write_all(&bytes);
                return std::thread::sleep(Duration::from_secs(2));
            }
            Next::Silence(span) => return std::thread::sleep(span),
        }
    }
}

/// Reads one request, framed by length or chunks.
fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut more = |received: &mut Vec<u8>| {
        let mut buf = [0; 16 << 10];
        let len = stream.read(&mut buf).ok().filter(|len| *len > 0)?;
        received.extend_from_slice(&buf[..len]);
        Some(())
    };
    let head_len = loop {
        match find(received, b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => more(received)?,
        }
    };
    let head = String::from_utf8(received.drain(..head_len).collect()).unwrap();
    let head = head.trim_end().to_owned();
    let body = if field(&head, "transfer-encoding").is_some() {
        while !received.starts_with(b"0\r\n\r\n") && find(received, b"\r\n0\r\n\r\n").is_none() {
            more(received)?;
        }
        let end = find(received, b"0\r\n\r\n")? + 5;
        received.drain(..end).collect()
    } else {
        let length = field(&head, "content-length").map_or(0, |it| it.parse().unwrap());
        while received.len() < length {
            more(received)?;
        }
        received.drain(..length).collect()
    };
    Some((head, body))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Runs `job` on every row, several at a time, and gives the results in order.
pub fn in_parallel<T: Sync, R: Send>(rows: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let mut results = Vec::new();
    for rows in rows.chunks(16) {
        std::thread::scope(|scope| {
            let running: Vec<_> = rows.iter().map(|row| scope.spawn(|| job(row))).collect();
            results.extend(running.into_iter().map(|job| job.join().unwrap()));
        });
    }
    results
}

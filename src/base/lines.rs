//! Lines for a reader who may be slow: a queue, and a thread that writes.
//!
//! Whoever has a line never waits: not for a pipe that nobody reads, not for a disk that
//! stands still. Lines that find no room, or cannot be written, are lost and counted.

use std::io::{self, BufWriter, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus::IntCounter;

use super::clock::Stopwatch;
use super::tasks;

/// Lines that wait, at most, and their bytes.
const QUEUE_LEN_MAX: usize = 16 << 10;
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Lines behind which the writer looks up though more are waiting.
const BATCH_LEN_MAX: usize = 1024;

/// Bytes written at once, unless a line is longer: as many as a pipe takes in one piece,
/// whoever else writes to it.
const PIECE_LEN_MAX: usize = 4096;

/// How long who drops a queue waits for a reader who takes nothing, and for one who does.
const STILL_PATIENCE: Duration = Duration::from_secs(1);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How often who flushes looks whether there is room to ask for it.
const FLUSH_LOOK_PERIOD: Duration = Duration::from_millis(5);

/// A queue of lines, and its thread. Dropping it waits as [`Lines::finish`] does.
#[derive(Debug)]
pub struct Lines {
    queue: Option<SyncSender<Item>>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: IntCounter,
    thread: Option<JoinHandle<()>>,
}

/// What befell lines, for whoever wants to tell it.
#[derive(Debug)]
pub enum Trouble {
    /// They cannot be written. Told once, until they can be.
    Failed(io::Error),
    /// So many found no room in the queue or were not written; those behind them were.
    Lost(u64),
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before it is to be written; then this is told.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts a thread of this name, which writes to `sink`. Lines that find no room or are
    /// not written are counted in `lost`; the thread tells `trouble`.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn open(
        name: &str,
        sink: impl Write + Send + 'static,
        lost: IntCounter,
        trouble: fn(Trouble),
    ) -> io::Result<Lines> {
        let (queue, queued) = sync_channel(QUEUE_LEN_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer {
            sink: BufWriter::with_capacity(PIECE_LEN_MAX, sink),
            waiting_bytes: Arc::clone(&waiting_bytes),
            lost: lost.clone(),
            lost_told: 0,
            is_failing: false,
            trouble,
        };
        let thread = tasks::spawn_thread(name, move || writer.run(&queued))?;
        Ok(Lines { queue: Some(queue), waiting_bytes, lost, thread: Some(thread) })
    }

    /// Queues a line, its end included. Never waits.
    pub fn write(&self, line: Vec<u8>) {
        let Some(queue) = &self.queue else { return };
        let len = line.len();
        let waiting = self.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        if waiting > QUEUE_BYTES_MAX || queue.try_send(Item::Line(line)).is_err() {
            self.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// Waits until what is queued is written, but no longer than `patience`. False if that
    /// was not enough.
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(queue) = &self.queue else { return true };
        let watch = Stopwatch::start();
        let (tell, told) = sync_channel(1);
        let mut item = Item::Flush(tell);
        while let Err(TrySendError::Full(unsent)) = queue.try_send(item) {
            if watch.elapsed() >= patience {
                return false;
            }
            thread::sleep(FLUSH_LOOK_PERIOD);
            item = unsent;
        }
        told.recv_timeout(patience.saturating_sub(watch.elapsed())).is_ok()
    }

    /// Waits until what is queued is written: for a second where nothing of it is, and
    /// while some of it is, for ten. False if that was not enough.
    pub fn finish(&self) -> bool {
        let watch = Stopwatch::start();
        loop {
            let waiting = self.waiting_bytes.load(Ordering::Relaxed);
            if self.flush(STILL_PATIENCE) {
                return true;
            }
            let is_still = self.waiting_bytes.load(Ordering::Relaxed) >= waiting;
            if is_still || watch.elapsed() >= LAST_PATIENCE {
                return false;
            }
        }
    }

    /// Lines that were lost.
    pub fn lost(&self) -> &IntCounter {
        &self.lost
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let is_written = self.finish();
        self.queue = None;
        // Else it is left to itself: it may wait for ever.
        if let Some(thread) = self.thread.take()
            && is_written
        {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

/// The thread's end of it.
struct Writer<W: Write> {
    sink: BufWriter<W>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: IntCounter,
    lost_told: u64,
    is_failing: bool,
    trouble: fn(Trouble),
}

impl<W: Write> Writer<W> {
    /// Writes until nobody can send more. Flushes whenever nothing is waiting, when that is
    /// asked for, and now and then where there is always more.
    fn run(&mut self, queued: &Receiver<Item>) {
        while let Ok(first) = queued.recv() {
            let (mut written, mut flush) = (Ok(()), None);
            for item in iter::once(first).chain(queued.try_iter().take(BATCH_LEN_MAX)) {
                match item {
                    Item::Line(line) => {
                        written = written.and_then(|()| self.sink.write_all(&line));
                        if written.is_err() {
                            self.lost.inc();
                        }
                        self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    }
                    Item::Flush(tell) => {
                        flush = Some(tell);
                        break;
                    }
                }
            }
            let written = written.and_then(|()| self.sink.flush());
            self.tell(written);
            if let Some(tell) = flush {
                // Who has given up waiting is not there.
                let _ = tell.try_send(());
            }
        }
    }

    fn tell(&mut self, written: io::Result<()>) {
        let was_failing = self.is_failing;
        self.is_failing = written.is_err();
        match written {
            Err(error) if !was_failing => (self.trouble)(Trouble::Failed(error)),
            Err(_) => {}
            Ok(()) => {
                let lost = self.lost.get();
                let count = lost - std::mem::replace(&mut self.lost_told, lost);
                if count > 0 {
                    (self.trouble)(Trouble::Lost(count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes what is written only when it is let.
    struct Slow {
        lets: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lets.recv().map_err(io::Error::other)?;
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_writes_never_waits_and_what_finds_no_room_is_counted() {
        let (lets, taken) = (mpsc::channel(), Arc::default());
        let sink = Slow { lets: lets.1, taken: Arc::clone(&taken) };
        let lost = IntCounter::new("lost", "lines").unwrap();
        let lines = Lines::open("slow", sink, lost.clone(), |_| {}).unwrap();
        for number in 0..2 * QUEUE_LEN_MAX {
            lines.write(format!("{number}\n").into_bytes());
        }
        assert!(!lines.flush(Duration::from_millis(1)));
        let lost_count = lost.get();
        assert!(lost_count > 0);
        drop(lets.0);
        // From here on nothing can be written, and nobody waits for that.
        assert!(lines.flush(PATIENCE));
        drop(lines);

        let (lets, lost) = (mpsc::channel(), IntCounter::new("lost", "lines").unwrap());
        let sink = Slow { lets: lets.1, taken: Arc::clone(&taken) };
        let lines = Lines::open("slow", sink, lost.clone(), |_| {}).unwrap();
        lines.write(vec![b'x'; QUEUE_BYTES_MAX + 1]);
        lines.write(b"too much\n".to_vec());
        assert_eq!(lost.get(), 1, "they are counted in bytes too");
        lets.0.send(()).unwrap();
        lets.0.send(()).unwrap();
        assert!(lines.flush(PATIENCE));
        lines.write(b"the last\n".to_vec());
        lets.0.send(()).unwrap();
        drop(lines);
        assert!(taken.lock().unwrap().ends_with(b"the last\n"), "what waits is written");
    }

    /// Full for so many calls; and for each that it takes, somebody has one line more.
    #[derive(Clone, Default)]
    struct Talking {
        fails: Arc<AtomicUsize>,
        taken: Arc<Mutex<Vec<u8>>>,
        about: Arc<Mutex<Option<SyncSender<Item>>>>,
    }

    impl Write for Talking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let less = |count: usize| count.checked_sub(1);
            if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if let Some(queue) = &*self.about.lock().unwrap() {
                let more = Item::Line(vec![b'x'; PIECE_LEN_MAX]);
                // Room or none, it is one that waits.
                let _ = queue.try_send(more);
            }
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_flushes_is_answered_though_there_is_always_one_line_more() {
        let lost = IntCounter::new("lost", "lines").unwrap();
        let sink = Talking::default();
        let lines = Lines::open("talking", sink.clone(), lost, |_| {}).unwrap();
        *sink.about.lock().unwrap() = lines.queue.clone();
        lines.write(vec![b'y'; PIECE_LEN_MAX]);
        lines.write(b"the last\n".to_vec());
        assert!(lines.flush(PATIENCE));
        let taken = String::from_utf8(sink.taken.lock().unwrap().clone()).unwrap();
        assert!(taken.contains("the last\n"), "what was written before is there");
        *sink.about.lock().unwrap() = None;
    }

    static LOST_TOLD: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_once_they_can() {
        let lost = IntCounter::new("lost", "lines").unwrap();
        let sink = Talking::default();
        let lines = Lines::open("full", sink.clone(), lost.clone(), |trouble| {
            if let Trouble::Lost(count) = trouble {
                LOST_TOLD.fetch_add(count as usize, Ordering::SeqCst);
            }
        })
        .unwrap();
        sink.fails.store(usize::MAX, Ordering::SeqCst);
        for number in 0..2000 {
            lines.write(format!("{number}\n").into_bytes());
        }
        assert!(lines.flush(PATIENCE));
        sink.fails.store(0, Ordering::SeqCst);
        lines.write(b"the last\n".to_vec());
        assert!(lines.flush(PATIENCE));
        let taken = String::from_utf8(sink.taken.lock().unwrap().clone()).unwrap();
        assert!(taken.ends_with("\nthe last\n"));
        let lost_count = 2001 - taken.lines().count();
        assert!(lost_count > 0);
        assert_eq!(lost.get(), lost_count as u64);
        assert_eq!(LOST_TOLD.load(Ordering::SeqCst), lost_count);
    }

    /// What each call was given.
    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whole_lines_are_written_in_pieces_that_a_pipe_does_not_cut() {
        let lost = IntCounter::new("lost", "lines").unwrap();
        let sink = Pieces::default();
        let lines = Lines::open("pieces", sink.clone(), lost, |_| {}).unwrap();
        for number in 0..2000 {
            lines.write(format!("line {number}\n").into_bytes());
        }
        drop(lines);
        let pieces = sink.0.lock().unwrap();
        assert!(pieces.iter().all(|it| it.len() <= 4096 && it.ends_with(b"\n")));
        assert_eq!(pieces.concat().split(|it| *it == b'\n').count(), 2001);
    }

    #[test]
    fn who_drops_it_does_not_wait_for_a_reader_who_stands_still() {
        let (lets, taken) = (mpsc::channel(), Arc::default());
        let sink = Slow { lets: lets.1, taken };
        let lost = IntCounter::new("lost", "lines").unwrap();
        let lines = Lines::open("still", sink, lost, |_| {}).unwrap();
        lines.write(b"not read\n".to_vec());
        drop(lines);
        drop(lets.0);
    }
}

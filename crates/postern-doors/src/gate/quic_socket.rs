//! The socket that quinn reads: the four queues behind the gate.
//!
//! Queues are drained in turn, 8 reads of the best for one of the least, and what the gate drops never reaches quinn. A poll
//! is bounded in time, because quinn's own bound counts only what it is given: under a flood of trash the other tasks of
//! the thread, the sessions of friends, have their turn in between. A thread that is flooded never sleeps, so that whatever
//! is done when it falls asleep is done after each poll instead.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_net::steering::split::{Queue, kernel_drops};
use postern_proto::door::limits::CHALLENGE_BYTES;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;

use super::load::{KernelDrops, Load};
use super::machine::{Gate, SharedGate};
use super::now::Now;
use super::sockets::DoorSockets;
use super::verdict::Verdict;

/// Reads of a queue in a row, the best queue first, when all have something.
const WEIGHTS: [u32; 4] = [8, 4, 2, 1];
/// No further read in a poll that has taken so long: what a session waits at most for its turn, but for one read of 32
/// datagrams or trains of them. Half of it would double the looks at the clock and the queue of tasks.
const POLL_MAX: Duration = Duration::from_micros(200);
/// How often the gate's tables age and its level is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What quinn takes for its socket.
pub struct GateSocket {
    queues: [Reader; 4],
    gate: SharedGate,
    clock: Clock,
    turn: Mutex<Turn>,
    busy: Busy,
    poll_max: Duration,
}

/// Done after each poll.
pub type Busy = Box<dyn Fn() + Send + Sync>;

struct Reader {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

/// Where the round stands.
struct Turn {
    queue: usize,
    reads: u32,
    busy: Duration,
    ticked: Instant,
}

struct Clock {
    epoch: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            unix_s: u32::try_from(unix.as_secs()).unwrap_or(u32::MAX),
            ms: u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl GateSocket {
    /// Begins to read. Must be called inside the runtime of the QUIC thread; a task of it keeps the gate's time. `busy` is
    /// called after each poll: under a flood the thread never sleeps.
    ///
    /// # Errors
    /// The system's.
    pub fn new(sockets: &DoorSockets, gate: SharedGate, busy: Busy) -> io::Result<Arc<Self>> {
        Self::with(sockets, gate, busy, POLL_MAX)
    }

    fn with(sockets: &DoorSockets, gate: SharedGate, busy: Busy, poll_max: Duration) -> io::Result<Arc<Self>> {
        let reader = |queue| -> io::Result<Reader> {
            let socket = sockets.queue(queue)?;
            let state = UdpSocketState::new((&socket).into())?;
            Ok(Reader { io: tokio::net::UdpSocket::from_std(socket)?, state })
        };
        let [a, b, c, d] = Queue::ALL.map(reader);
        let queues: [Reader; 4] = [a?, b?, c?, d?];
        let turn = Turn { queue: 0, reads: 0, busy: Duration::ZERO, ticked: Instant::now() };
        let clock = Clock { epoch: sockets.epoch() };
        let socket = Arc::new(Self { queues, gate, clock, turn: Mutex::new(turn), busy, poll_max });
        socket.tick();
        let weak = Arc::downgrade(&socket);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(socket) = weak.upgrade() else { return };
                socket.tick();
            }
        });
        Ok(socket)
    }

    fn tick(&self) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = turn.ticked.elapsed().max(Duration::from_millis(1));
        let cpu = turn.busy.as_secs_f64() / passed.as_secs_f64();
        (turn.busy, turn.ticked) = (Duration::ZERO, Instant::now());
        drop(turn);
        let [established, ticket, cookie, rest] =
            [0, 1, 2, 3].map(|queue| kernel_drops(&self.queues[queue].io).unwrap_or(0));
        let kernel_drops = KernelDrops { established, ticket, cookie, rest };
        self.gate().tick(self.clock.now(), Load { cpu, kernel_drops });
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One read of a queue: how many buffers, the first of all, hold something for quinn. `None`: it is empty, and will wake us.
    fn read(
        &self,
        queue: usize,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<Option<usize>> {
        let reader = &self.queues[queue];
        loop {
            match reader.io.poll_recv_ready(cx) {
                Poll::Pending => return Ok(None),
                Poll::Ready(ready) => ready?,
            }
            let read = || reader.state.recv((&reader.io).into(), buffers, meta);
            match reader.io.try_io(Interest::READABLE, read) {
                Ok(count) => return Ok(Some(self.sift(queue, &mut buffers[..count], &mut meta[..count]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Shows each datagram to the gate (a buffer may hold many, by GRO) and moves those that pass to the front.
    fn sift(&self, queue: usize, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let now = self.clock.now();
        let mut gate = self.gate();
        let work = Duration::from_nanos(u64::from(gate.work_ns()));
        let mut kept = 0;
        for i in 0..buffers.len() {
            let (len, stride, source) = (meta[i].len, meta[i].stride.max(1), meta[i].addr);
            let (mut read, mut written) = (0, 0);
            while read < len {
                let end = (read + stride).min(len);
                let mut answer = [0; CHALLENGE_BYTES];
                match gate.handle(&buffers[i][read..end], source, now, &mut answer) {
                    Verdict::Pass => {
                        buffers[i].copy_within(read..end, written);
                        written += end - read;
                    }
                    Verdict::Answer => self.answer(queue, source, &meta[i], &answer),
                    Verdict::Drop(_) => {}
                }
                if !work.is_zero() {
                    spin(work);
                }
                read = end;
            }
            if written > 0 {
                meta[i].len = written;
                buffers.swap(kept, i);
                meta.swap(kept, i);
                kept += 1;
            }
        }
        kept
    }

    /// A stranger who does not get it asks again: it never waits.
    fn answer(&self, queue: usize, to: SocketAddr, meta: &RecvMeta, answer: &[u8]) {
        let reader = &self.queues[queue];
        let transmit =
            Transmit { destination: to, ecn: None, contents: answer, segment_size: None, src_ip: meta.dst_ip };
        let _lost = reader.io.try_io(Interest::WRITABLE, || reader.state.try_send((&reader.io).into(), &transmit));
    }

    fn poll_queues(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (began, mut empty) = (Instant::now(), 0);
        loop {
            let queue = {
                let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                if turn.reads >= WEIGHTS[turn.queue] {
                    turn.queue = (turn.queue + 1) % WEIGHTS.len();
                    turn.reads = 0;
                }
                turn.reads += 1;
                turn.queue
            };
            match self.read(queue, cx, buffers, meta)? {
                Some(0) if began.elapsed() >= self.poll_max => break,
                Some(0) => empty = 0,
                Some(kept) => return Poll::Ready(Ok(kept)),
                None => {
                    let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                    turn.reads = WEIGHTS[queue];
                    empty += 1;
                    if empty == WEIGHTS.len() {
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncUdpSocket for GateSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let reader = &self.queues[0];
        reader.io.try_io(Interest::WRITABLE, || reader.state.send((&reader.io).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let began = Instant::now();
        let result = self.poll_queues(cx, buffers, meta);
        (self.busy)();
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).busy += began.elapsed();
        result
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.queues[0].io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.queues[0].state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.queues[0].state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.queues[0].state.may_fragment()
    }
}

impl std::fmt::Debug for GateSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateSocket").field("addr", &self.local_addr().ok()).finish_non_exhaustive()
    }
}

/// Waits until the socket that all of QUIC is sent by takes more. Each connection has one, with a waker of its own.
struct Writable {
    socket: Arc<GateSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = Arc::clone(&this.socket);
            Box::pin(async move { socket.queues[0].io.writable().await })
        });
        let result = waiting.as_mut().poll(cx);
        if result.is_ready() {
            this.waiting = None;
        }
        result
    }
}

impl std::fmt::Debug for Writable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests;

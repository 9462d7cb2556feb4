//! A bad network between two nodes on one machine: a UDP proxy on loopback, one thread of the test, that delays, loses, reorders and holds
//! back datagrams, and that is cut and joined on command. With one seed the n-th datagram of a direction always has the same fate.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotspare::thought::dice::Dice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What waits behind a slow line is dropped beyond this, as a router does.
const QUEUE_BYTES: u64 = 256 * 1024;
/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What the network does to each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Weather {
    /// How long a datagram takes.
    pub(crate) delay: Duration,
    /// How many of a thousand are lost.
    pub(crate) lost: usize,
    /// How many of a thousand take half as long again, and 5 ms: others pass them.
    pub(crate) late: usize,
    /// How many bytes go through in a second; `None`: all.
    pub(crate) rate: Option<u64>,
}

impl Weather {
    /// 200 ms there and back, one of two hundred lost, some reordered.
    pub(crate) const FAR: Self = Self { delay: Duration::from_millis(100), lost: 5, late: 20, rate: None };
}

/// The proxy. Whoever sends to its port reaches the port behind it.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    weather: Mutex<Weather>,
    is_cut: AtomicBool,
    is_ending: AtomicBool,
    /// Bytes delivered: towards the port behind, and back.
    delivered: [AtomicU64; 2],
}

impl Proxy {
    /// A proxy before `port` on loopback, with fair weather.
    pub(crate) fn to(port: u16, seed: u64) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let line = Line::new(front, SocketAddr::from(([127, 0, 0, 1], port)), seed, Arc::clone(&shared));
        let thread = Some(std::thread::spawn(move || line.run()));
        Self { port: address.port(), shared, thread }
    }

    /// Changes what becomes of datagrams from now on.
    pub(crate) fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    /// Nothing goes through any more, and nobody is told.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
    }

    /// It goes through again.
    pub(crate) fn join(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }

    /// Bytes delivered so far from the port behind to those who dialed: what a primary sent, when a standby dials it.
    pub(crate) fn returned(&self) -> u64 {
        self.shared.delivered[1].load(Ordering::SeqCst)
    }

    /// Bytes delivered so far to the port behind.
    pub(crate) fn forwarded(&self) -> u64 {
        self.shared.delivered[0].load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A datagram on its way: its bytes, the client it belongs to, and whether it goes back.
struct Waiting {
    bytes: Vec<u8>,
    client: SocketAddr,
    back: bool,
}

struct Line {
    front: UdpSocket,
    target: SocketAddr,
    /// A socket for each who dials.
    clients: Vec<(SocketAddr, UdpSocket)>,
    /// By when it is due, and a number.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    count: u64,
    /// For each direction: its dice, and when the line is free again.
    dice: [Dice; 2],
    free: [Instant; 2],
    shared: Arc<Shared>,
}

impl Line {
    fn new(front: UdpSocket, target: SocketAddr, seed: u64, shared: Arc<Shared>) -> Self {
        front.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let dice = [Dice::new(seed), Dice::new(seed.wrapping_add(1_000_003))];
        Self { front, target, clients: Vec::new(), waiting: BTreeMap::new(), count: 0, dice, free: [now; 2], shared }
    }

    fn run(mut self) {
        while !self.shared.is_ending.load(Ordering::SeqCst) {
            let due = self.waiting.first_key_value().map(|((due, _), _)| due.saturating_duration_since(Instant::now()));
            let wait = due.unwrap_or(LOOK).min(LOOK);
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            let mut sockets = vec![PollFd::new(&self.front, PollFlags::IN)];
            sockets.extend(self.clients.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)));
            poll(&mut sockets, Some(&wait)).ok();
            self.take_in();
            self.deliver();
        }
    }

    fn take_in(&mut self) {
        let mut buffer = vec![0; 65_536];
        while let Some((length, client)) = arrived(self.front.recv_from(&mut buffer)) {
            if !self.clients.iter().any(|(known, _)| *known == client) {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(self.target).unwrap();
                socket.set_nonblocking(true).unwrap();
                self.clients.push((client, socket));
            }
            self.accept(buffer[..length].to_vec(), client, false);
        }
        let mut back = Vec::new();
        for (client, socket) in &self.clients {
            while let Some(length) = arrived(socket.recv(&mut buffer)) {
                back.push((buffer[..length].to_vec(), *client));
            }
        }
        back.into_iter().for_each(|(bytes, client)| self.accept(bytes, client, true));
    }

    fn accept(&mut self, bytes: Vec<u8>, client: SocketAddr, back: bool) {
        let weather = *self.shared.weather.lock().unwrap();
        let side = usize::from(back);
        let (lost, late) = (self.dice[side].index(1000) < weather.lost, self.dice[side].index(1000) < weather.late);
        if lost || self.shared.is_cut.load(Ordering::SeqCst) {
            return;
        }
        let now = Instant::now();
        let mut due = now;
        if let Some(rate) = weather.rate {
            let begins = self.free[side].max(now);
            let queued = begins.saturating_duration_since(now).as_secs_f64() * rate as f64;
            if queued > QUEUE_BYTES as f64 {
                return;
            }
            self.free[side] = begins + Duration::from_secs_f64(bytes.len() as f64 / rate as f64);
            due = self.free[side];
        }
        due += weather.delay;
        if late {
            due += weather.delay / 2 + Duration::from_millis(5);
        }
        self.count += 1;
        self.waiting.insert((due, self.count), Waiting { bytes, client, back });
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.waiting.first_entry() {
            if first.key().0 > now {
                break;
            }
            let Waiting { bytes, client, back } = first.remove();
            if self.shared.is_cut.load(Ordering::SeqCst) {
                continue;
            }
            let sent = if back {
                self.front.send_to(&bytes, client)
            } else {
                let socket = self.clients.iter().find(|(known, _)| *known == client).map(|(_, socket)| socket);
                socket.map_or(Ok(0), |socket| socket.send(&bytes))
            };
            // Nobody there: lost, as on any network.
            if let Ok(sent) = sent {
                self.shared.delivered[usize::from(back)].fetch_add(sent as u64, Ordering::SeqCst);
            }
        }
    }
}

/// What arrived, if anything did; that nobody listens behind the proxy is no trouble of its own.
fn arrived<T>(received: std::io::Result<T>) -> Option<T> {
    match received {
        Ok(received) => Some(received),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => None,
    }
}

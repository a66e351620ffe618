//! Peers: some that behave, whose answers are all checked and whose latency counts, and many that do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use resay::{Client, SocketKind};
use resay_plugin::dice::SplitMix64;
use socket2::SockRef;

/// Peers of each listener that behave.
const STEADY: usize = 3;
/// After so many questions they come again.
const QUESTIONS: usize = 400;
const THINK: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(20);
const DATAGRAM_PATIENCE: Duration = Duration::from_secs(2);
/// How long those wait who wait on purpose.
const SLOWLY: Duration = Duration::from_millis(40);
const MESSAGE_BYTES_MAX: u64 = 1200;

/// Where the messages of a listener begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Line,
    Len32,
    /// Of the socket.
    Own,
}

/// As the server has them.
const FRAMES: [Frame; 6] = [Frame::Line, Frame::Len32, Frame::Line, Frame::Own, Frame::Own, Frame::Own];

pub(crate) struct Load {
    urls: Vec<String>,
    is_over: AtomicBool,
    latency: Mutex<Histogram<u64>>,
    answers: AtomicU64,
    /// Datagrams without an answer in time.
    lost: AtomicU64,
    /// Connections that the server has ended.
    ended: AtomicU64,
    /// Visits of those who do not behave.
    visits: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Load {
    /// The last two URLs are for those who do not behave.
    pub(crate) fn new(urls: &[String]) -> Load {
        Load {
            urls: urls.to_vec(),
            is_over: AtomicBool::new(false),
            latency: Mutex::new(empty()),
            answers: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            visits: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    /// Starts all peers.
    pub(crate) fn begin(self: &Arc<Load>) -> Vec<JoinHandle<()>> {
        let mut peers = Vec::new();
        let mut start = |run: Visit| {
            let (load, seed) = (Arc::clone(self), peers.len() as u64);
            peers.push(thread::spawn(move || {
                let mut dice = Dice(SplitMix64::new(seed));
                while !load.is_over.load(Ordering::Relaxed) {
                    run(&load, &mut dice);
                }
            }));
        };
        for (url, frame) in self.urls.iter().zip(FRAMES) {
            for _ in 0..STEADY {
                let url = url.clone();
                start(Box::new(move |load, dice| load.steady(&url, frame, QUESTIONS, dice)));
            }
            let url = url.clone();
            start(Box::new(move |load, dice| load.steady(&url, frame, 1, dice)));
        }
        let address =
            |place: usize| -> Option<SocketAddr> { self.urls.get(place)?.split_once("//")?.1.parse().ok() };
        let (slow, hostile, datagrams) = (address(1), address(6), address(7));
        for way in [never_reads as Way, reads_slowly] {
            if let Some(to) = slow {
                start(Box::new(move |load, dice| load.visit(way(to, load, dice))));
            }
        }
        for way in
            [never_reads as Way, reads_slowly, garbage, byte_by_byte, half_closes, resets, vanishes, vanishes]
        {
            if let Some(to) = hostile {
                start(Box::new(move |load, dice| load.visit(way(to, load, dice))));
            }
        }
        if let Some(to) = datagrams {
            start(Box::new(move |load, dice| load.visit(flood(to, dice))));
        }
        peers
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// The latency since the last call, in microseconds.
    pub(crate) fn take_latency(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.latency.lock().unwrap_or_else(PoisonError::into_inner), empty())
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.answers.load(Ordering::Relaxed) == 0 {
            faults.push("nothing was answered".to_owned());
        }
        faults
    }

    pub(crate) fn told(&self) -> String {
        let [answers, lost, ended, visits] =
            [&self.answers, &self.lost, &self.ended, &self.visits].map(|count| count.load(Ordering::Relaxed));
        format!(
            "{answers} answers, all as they should be but for {} faults; {lost} datagrams lost, {ended} connections ended \
             by the server, {visits} visits of peers that do not behave",
            self.faults().len()
        )
    }

    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < 20 {
            faults.push(what);
        }
    }

    /// Connects, asks so many questions and checks each answer.
    fn steady(&self, url: &str, frame: Frame, questions: usize, dice: &mut Dice) {
        let client = match Client::open(url, Some(PATIENCE)) {
            Ok(client) => client,
            Err(error) => {
                self.fault(format!("{url}: {error}"));
                return thread::sleep(Duration::from_secs(1));
            }
        };
        let is_datagram = matches!(client.kind(), SocketKind::Udp | SocketKind::UnixDatagram);
        let mut room = vec![0; 1 << 16];
        for number in 0..questions {
            if !self.goes_on() {
                return;
            }
            let message = dice.message(number, frame);
            let begin = Instant::now();
            if let Err(error) = client.send(&message, Some(PATIENCE)) {
                return self.end_or_fault(url, &error);
            }
            match self.hear(&client, &message, &mut room, is_datagram) {
                Ok(Heard::Right) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                    // It grows with what is recorded.
                    let _ = self.latency.lock().unwrap_or_else(PoisonError::into_inner).record(took);
                }
                Ok(Heard::Wrong) => {
                    return self.fault(format!("{url}: a wrong answer to {}", message.escape_ascii()));
                }
                Ok(Heard::End) => {
                    self.ended.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(_) if is_datagram => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) => return self.end_or_fault(url, &error),
            }
            thread::sleep(THINK);
        }
    }

    fn hear(
        &self,
        client: &Client,
        message: &[u8],
        room: &mut [u8],
        is_datagram: bool,
    ) -> resay::Result<Heard> {
        let patience = Some(if is_datagram { DATAGRAM_PATIENCE } else { PATIENCE });
        let mut heard = 0;
        while heard < message.len() {
            match client.recv(room.get_mut(heard..).unwrap_or_default(), patience)? {
                0 => return Ok(Heard::End),
                count => heard += count,
            }
        }
        Ok(if room.get(..heard) == Some(message) { Heard::Right } else { Heard::Wrong })
    }

    /// A server that ends a connection whose chain was replaced long ago may do so while a question is on its way.
    fn end_or_fault(&self, url: &str, error: &resay::Error) {
        let text = error.to_string();
        if text.contains("Broken pipe") || text.contains("reset") {
            self.ended.fetch_add(1, Ordering::Relaxed);
        } else {
            self.fault(format!("{url}: {text}"));
        }
    }

    /// Whatever becomes of those who do not behave is no fault; one who is refused does not come again at once.
    fn visit(&self, result: std::io::Result<()>) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

enum Heard {
    Right,
    Wrong,
    End,
}

fn empty() -> Histogram<u64> {
    // Three digits, for numbers of any size: the library takes up to five.
    #[expect(clippy::expect_used, reason = "a constant")]
    Histogram::new(3).expect("three digits")
}

/// Numbers without a pattern.
struct Dice(SplitMix64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.roll() % bound.max(1)
    }

    /// Small letters, with a number, in a frame.
    fn message(&mut self, number: usize, frame: Frame) -> Vec<u8> {
        let count = 1 + self.below(MESSAGE_BYTES_MAX);
        let mut message: Vec<u8> = (0..count).map(|_| b'a' + self.below(26) as u8).collect();
        message.extend(number.to_string().bytes());
        match frame {
            Frame::Line => message.push(b'\n'),
            Frame::Len32 => {
                let head = (message.len() as u32).to_be_bytes();
                message.splice(..0, head);
            }
            Frame::Own => {}
        }
        message
    }
}

/// What a peer does again and again.
type Visit = Box<dyn Fn(&Load, &mut Dice) + Send>;

type Way = fn(SocketAddr, &Load, &mut Dice) -> std::io::Result<()>;

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(DATAGRAM_PATIENCE))?;
    stream.set_write_timeout(Some(DATAGRAM_PATIENCE))?;
    Ok(stream)
}

/// Sends until nothing is taken any more, and leaves.
fn never_reads(to: SocketAddr, load: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let messages: Vec<u8> = (0..64).flat_map(|number| dice.message(number, Frame::Len32)).collect();
    while load.goes_on() {
        stream.write_all(&messages)?;
    }
    Ok(())
}

fn reads_slowly(to: SocketAddr, load: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let mut room = [0; 512];
    for number in 0..50 {
        if !load.goes_on() {
            break;
        }
        stream.write_all(&dice.message(number, Frame::Len32))?;
        thread::sleep(SLOWLY);
        let _ = stream.read(&mut room)?;
    }
    Ok(())
}

fn garbage(to: SocketAddr, _: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let noise: Vec<u8> = (0..dice.below(20_000)).map(|_| dice.below(256) as u8).collect();
    stream.write_all(&noise)?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

fn byte_by_byte(to: SocketAddr, load: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    for byte in dice.message(0, Frame::Line) {
        if !load.goes_on() {
            break;
        }
        stream.write_all(&[byte])?;
        thread::sleep(SLOWLY);
    }
    Ok(())
}

fn half_closes(to: SocketAddr, _: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    for number in 0..dice.below(20) as usize {
        stream.write_all(&dice.message(number, Frame::Line))?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

fn resets(to: SocketAddr, _: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    for number in 0..dice.below(50) as usize {
        stream.write_all(&dice.message(number, Frame::Line))?;
    }
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

fn vanishes(to: SocketAddr, _: &Load, dice: &mut Dice) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    if dice.below(2) == 0 {
        stream.write_all(&dice.message(0, Frame::Line))?;
    }
    thread::sleep(Duration::from_millis(dice.below(8)));
    Ok(())
}

/// A burst of datagrams whose answers nobody reads, some of them longer than the guard lets pass.
fn flood(to: SocketAddr, dice: &mut Dice) -> std::io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for number in 0..200 {
        let mut message = dice.message(number, Frame::Own);
        message.resize(dice.below(3000) as usize, b'x');
        let _ = socket.send_to(&message, to);
    }
    thread::sleep(SLOWLY);
    Ok(())
}

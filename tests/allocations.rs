//! A message costs no memory: in a steady state the engine allocates nothing, over every transport, with both drivers,
//! whether the chain works in place or not. An allocator that counts says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use resay::{Backend, Engine};

/// Allocations of all threads that are not the test's own.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the test's own: the peers', whose allocations are nobody's business.
    static IS_PEER: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    // A thread that ends has no thread-locals any more, and serves nobody.
    if IS_PEER.try_with(|is_peer| !is_peer.get()).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's doing; counting touches no memory that it gives.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    /// What the trait asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    /// What the trait asks for.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// # Safety
    /// What the trait asks for.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a peer sends, and what comes back.
struct Talk {
    options: &'static str,
    chain: &'static str,
    message: &'static [u8],
    answer: &'static [u8],
}

const TALKS: [Talk; 4] = [
    Talk { options: "", chain: "", message: b"as it is", answer: b"as it is" },
    Talk { options: "", chain: "uppercase | rot13", message: b"in place", answer: b"VA CYNPR" },
    // Longer than what came, so in memory of the engine's own.
    Talk {
        options: "amplify=4",
        chain: "uppercase | hex",
        message: b"it grows",
        answer: b"49542047524F5753",
    },
    Talk { options: "frame=lines", chain: "suffix:text=!", message: b"a line\n", answer: b"a line!\n" },
];

const WARM_UP: usize = 300;
const MESSAGES: usize = 3000;
const PEERS: usize = 12;

fn exchange_with(peers: &[Peer], talk: &Talk, rounds: usize) {
    for _ in 0..rounds {
        // All at once, so that there are turns with many completions.
        peers.iter().for_each(|peer| peer.send(talk.message));
        for peer in peers {
            let mut answer = Vec::new();
            while answer.len() < talk.answer.len() {
                answer.extend(peer.message());
            }
            assert!(answer.eq_ignore_ascii_case(talk.answer), "{}", String::from_utf8_lossy(&answer));
        }
    }
}

#[test]
fn a_message_costs_no_allocation() {
    isolated(|| {
        IS_PEER.set(true);
        for backend in [Backend::Epoll, Backend::Uring, Backend::Auto] {
            for transport in Transport::all() {
                for talk in &TALKS {
                    let applies = match talk.options.split('=').next() {
                        Some("amplify") => matches!(transport, Transport::Udp4 | Transport::Udp6),
                        Some("frame") => transport.is_stream(),
                        _ => true,
                    };
                    let udp_would_refuse =
                        talk.answer.len() > talk.message.len() && !talk.options.contains("amplify");
                    let is_udp = matches!(transport, Transport::Udp4 | Transport::Udp6);
                    if !applies && talk.options.starts_with("frame") || (is_udp && udp_would_refuse) {
                        continue;
                    }
                    let options = if applies { talk.options } else { "" };
                    let directory = directory();
                    let url = format!("{}?{options}", transport.url(directory.path()));
                    let url = url.trim_end_matches('?');
                    let builder = Engine::builder().backend(backend).listen(url).unwrap();
                    let engine = match builder.chain(talk.chain).unwrap().start() {
                        Err(error) if backend == Backend::Uring => {
                            return skipped(&format!("io_uring: {error}"));
                        }
                        engine => engine.unwrap(),
                    };
                    let url = engine.urls().remove(0);
                    let peers: Vec<_> = (0..PEERS).map(|_| Peer::connect(&url)).collect();
                    exchange_with(&peers, talk, WARM_UP / PEERS);
                    let before = ALLOCATIONS.load(Ordering::Relaxed);
                    exchange_with(&peers, talk, MESSAGES / PEERS);
                    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
                    let what = format!("{backend} {transport:?} {:?}", talk.chain);
                    // A turn may still bring more at once than any before it; a message costs nothing.
                    assert!(
                        allocated * 100 < MESSAGES,
                        "{what}: {allocated} allocations for {MESSAGES} messages"
                    );
                    drop(peers);
                    finish(engine);
                }
            }
        }
    });
}

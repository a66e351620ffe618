//! A message costs no memory: in a steady state the engine allocates nothing, over every transport, with both drivers,
//! whether the chain works in place or not. An allocator that counts says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use resay::{Backend, Engine};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

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
    Talk { options: "", chain: "uppercase | hex", message: b"it grows", answer: b"49542047524F5753" },
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
        heap::leave_out_this_thread();
        for backend in [Backend::Epoll, Backend::Uring, Backend::Auto] {
            for transport in Transport::all() {
                for talk in &TALKS {
                    if talk.options.starts_with("frame") && !transport.is_stream() {
                        continue;
                    }
                    let directory = directory();
                    let url = format!("{}?{}", transport.url(directory.path()), talk.options);
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
                    let before = heap::allocations();
                    exchange_with(&peers, talk, MESSAGES / PEERS);
                    let allocated = heap::allocations() - before;
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

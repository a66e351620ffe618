//! What serving costs, measured in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const URL: &str = "tcp://127.0.0.1:0";

/// A server that says its URL, and then, whenever it is asked, how many connections are open and how many bytes of
/// memory are its own, and how many of them on its heap; `swap N` swaps its chain so many times.
fn server() {
    raise_descriptor_limit();
    let engine = engine_builder().listen(URL).unwrap().chain("uppercase").unwrap().start().unwrap();
    say(&engine.urls()[0]);
    while let Some(line) = told() {
        if let Some(count) = line.strip_prefix("swap ") {
            for round in 0..count.parse::<usize>().unwrap() {
                engine.set_chain(["uppercase:unicode=1", "uppercase"][round % 2]).unwrap();
            }
        }
        say(&format!("{} {} {}", engine.stats().open, own_memory(), heap::live_bytes()));
    }
    finish(engine);
}

/// Pages that this process has written to and shares with nobody: heap, stacks, data.
fn own_memory() -> u64 {
    memory_figure("/proc/self/smaps_rollup", "Private_Dirty")
}

/// What the server says of itself.
#[derive(Debug, Clone, Copy)]
struct Said {
    open: u64,
    /// Pages.
    memory: u64,
    /// Of it in use.
    heap: u64,
}

fn ask(helper: &mut Helper, line: &str) -> Said {
    helper.tell(line);
    let line = helper.hear();
    let figures: Vec<u64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    let [open, memory, heap] = figures[..] else { panic!("{line}") };
    Said { open, memory, heap }
}

/// Waits until the server has so many connections, and gives what it says then.
fn said_with(helper: &mut Helper, connections: u64) -> Said {
    eventually("the connections are there", || match ask(helper, "") {
        said if said.open == connections => Ok(said),
        said => Err(format!("{} of {connections}", said.open)),
    })
}

fn connect(url: &str, count: usize) -> Vec<Peer> {
    (0..count)
        .map(|_| {
            let peer = Peer::connect(url);
            assert_eq!(peer.ask(b"once"), b"ONCE");
            peer
        })
        .collect()
}

/// Thousands of connections that have spoken once and are silent now: at most a KiB each of the engine's own memory,
/// and no more when as many come again.
#[test]
fn idle_connections_are_cheap() {
    isolated(|| {
        const COUNT: usize = 8000;
        if role().is_some() {
            return server();
        }
        let limit = raise_descriptor_limit();
        if limit < COUNT as u64 + 500 {
            return skipped(&format!(
                "the memory of {COUNT} connections: only {limit} descriptors are allowed"
            ));
        }
        let mut helper = Helper::start("server");
        let url = helper.hear();
        // What is made once, however many come.
        drop(connect(&url, 50));
        let before = said_with(&mut helper, 0);
        let peers = connect(&url, COUNT);
        let after = said_with(&mut helper, COUNT as u64);
        let each = after.memory.saturating_sub(before.memory) / COUNT as u64;
        eprintln!("FIGURE: {each} bytes for each of {COUNT} idle connections ({before:?}, {after:?})");
        assert!(each <= 1024, "{each} bytes for each of {COUNT} connections");
        drop(peers);
        // Queues grow to the most that ends at once; after that nothing does.
        let mut again = || {
            said_with(&mut helper, 0);
            let peers = connect(&url, COUNT);
            (said_with(&mut helper, COUNT as u64), peers)
        };
        let (second, peers) = again();
        drop(peers);
        let (third, peers) = again();
        assert!(second.heap <= after.heap + (1 << 20), "{after:?}, {second:?}");
        assert!(third.heap <= second.heap + (64 << 10), "{second:?}, {third:?}");
        drop(peers);
        helper.finish();
    });
}

/// Connections that have moved megabytes hold no buffer once they are silent.
#[test]
fn busy_connections_give_their_buffers_back() {
    isolated(|| {
        if role().is_some() {
            return server();
        }
        let mut helper = Helper::start("server");
        let url = helper.hear();
        let peers = connect(&url, 200);
        let before = said_with(&mut helper, 200);
        let data = vec![b'X'; 2 << 20];
        for peer in &peers[..20] {
            assert_same("megabytes", &data, &exchange(peer, &data, data.len()));
        }
        let some = said_with(&mut helper, 200);
        for peer in &peers[20..] {
            assert_same("megabytes", &data, &exchange(peer, &data, data.len()));
        }
        let all = said_with(&mut helper, 200);
        eprintln!("FIGURE: {before:?} before, {some:?} after 20 busy connections, {all:?} after 200");
        // A worker keeps some buffers for reuse, so the first few cost something; ten times as many do not.
        assert!(some.memory <= before.memory + (24 << 20), "{before:?} before, {some:?} after 20");
        assert!(all.heap <= some.heap + (2 << 20), "{some:?} after 20 busy connections, {all:?} after 200");
        drop(peers);
        helper.finish();
    });
}

/// A chain that is swapped a thousand times leaves no old ones behind.
#[test]
fn swapped_chains_leave_nothing() {
    isolated(|| {
        if role().is_some() {
            return server();
        }
        let mut helper = Helper::start("server");
        let url = helper.hear();
        let peers = connect(&url, 20);
        let settled = |helper: &mut Helper| {
            let said = ask(helper, "swap 1000");
            // They live on, whatever chain they have now.
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"SWAPPED"), b"SWAPPED"));
            said
        };
        let first = settled(&mut helper);
        (0..3).for_each(|_| _ = settled(&mut helper));
        // What workers have left is destroyed on a thread of its own, in its own time.
        let last = eventually("the old chains are gone", || match ask(&mut helper, "") {
            last if last.heap <= first.heap + (32 << 10) => Ok(last),
            last => Err(format!("{first:?} after the first thousand swaps, {last:?} after four")),
        });
        eprintln!("FIGURE: {first:?} after the first thousand swaps, {last:?} after four");
        drop(peers);
        helper.finish();
    });
}

//! What serving costs, measured in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

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
        let most = if std::env::var("RESAY_BACKEND").as_deref() == Ok("epoll") { 256 } else { 300 };
        assert!(each <= most, "{each} bytes for each of {COUNT} connections");
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

/// What one connection may cost in each state: the table of docs/guarantees.md.
struct Row {
    state: &'static str,
    options: &'static str,
    chain: String,
    connections: usize,
    /// What a peer does, after all of them have had a long answer.
    then: fn(&Peer),
    bytes_max: u64,
}

const HIGH_WATER: u64 = 64 << 10;
const READ: u64 = 128 << 10;
/// What a worker keeps for reuse.
const REUSE: u64 = 4 << 20;

fn rows() -> Vec<Row> {
    // A header stands in front of the layer that all peers may speak.
    let proxied = (!layer::is_on()).then(|| Row {
        state: "a header of a proxy, as long as it may be",
        options: "proxy=v2&proxy_timeout=1h",
        chain: "uppercase".to_owned(),
        connections: 100,
        then: |peer| {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x0f\xf0\x04\x0f\xed".to_vec();
            header.resize(4096, 0);
            peer.send(&header);
            assert_eq!(peer.ask(b"y"), b"Y");
        },
        bytes_max: 4096 + 100,
    });
    let others = vec![
        Row {
            state: "one byte of an unfinished line, in memory that held a long one",
            options: "frame=lines",
            chain: "hex".to_owned(),
            connections: 200,
            then: |peer| peer.send(b"y"),
            bytes_max: 600,
        },
        Row {
            state: "10,000 bytes of an unfinished line",
            options: "frame=lines",
            chain: "uppercase".to_owned(),
            connections: 100,
            then: |peer| peer.send(&[b'y'; 10_000]),
            bytes_max: 2 * 10_000 + 600,
        },
        Row {
            state: "answers in place that the peer does not take",
            options: "high_water=64k",
            chain: "uppercase".to_owned(),
            connections: 40,
            then: |peer| flood(peer, &[b'y'; 8192]),
            bytes_max: 2 * HIGH_WATER + READ,
        },
        Row {
            state: "empty lines with long answers that the peer does not take",
            options: "frame=lines&high_water=64k",
            chain: format!("template:text='{}'", "t".repeat(8000)),
            connections: 40,
            then: |peer| flood(peer, &[b'\n'; 65_536]),
            bytes_max: 2 * HIGH_WATER + 2 * READ,
        },
        Row {
            state: "a raw stream that grows 512 times, and the peer does not take it",
            options: "high_water=64k",
            chain: ["hex"; 9].join(" | "),
            connections: 40,
            then: |peer| flood(peer, &[b'y'; 65_536]),
            bytes_max: 2 * HIGH_WATER + 2 * READ + 9 * 2 * (64 << 10),
        },
        Row {
            state: "small answers that are delayed",
            options: "frame=lines&high_water=64k",
            chain: "delay:time=60m".to_owned(),
            connections: 40,
            then: |peer| flood(peer, &[b'\n'; 65_536]),
            bytes_max: 2 * HIGH_WATER + 2 * READ,
        },
    ];
    proxied.into_iter().chain(others).collect()
}

/// Sends for as long as anything is taken.
fn flood(peer: &Peer, bytes: &[u8]) {
    peer.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    while peer.try_send_some(bytes).is_ok() {}
}

/// A server that begins anew for each row that it is told, and then says what is on its heap.
fn server_of_rows() {
    while let Some(line) = told() {
        let (options, chain) = line.split_once(' ').unwrap();
        let builder = engine_builder().listen(&format!("{URL}?{options}")).unwrap();
        let engine = builder.chain(chain).unwrap().start().unwrap();
        say(&engine.urls()[0]);
        while told().unwrap() == "heap" {
            say(&heap::live_bytes().to_string());
        }
        engine.stop();
        engine.join(PATIENCE).unwrap();
    }
}

#[test]
fn each_state_costs_what_the_table_says() {
    isolated(|| {
        if role().is_some() {
            return server_of_rows();
        }
        let mut helper = Helper::start("rows");
        for Row { state, options, chain, connections, then, bytes_max } in rows() {
            helper.tell(&format!("{options} {chain}"));
            let url = helper.hear();
            // The first is not measured: what the worker itself needs for such a state is there then.
            let peers: Vec<Peer> = (0..=connections).map(|_| Peer::connect(&url)).collect();
            if chain == "hex" {
                for peer in &peers {
                    let line = [&[b'x'; 60_000][..], b"\n"].concat();
                    assert_eq!(exchange(peer, &line, 120_001).len(), 120_001);
                }
            }
            let heap = |helper: &mut Helper| {
                helper.tell("heap");
                helper.hear().parse::<u64>().unwrap()
            };
            let (first, measured) = peers.split_first().unwrap();
            then(first);
            let before = heap(&mut helper);
            measured.iter().for_each(then);
            // What it does about it takes its time; the figure only counts when it stays.
            let mut last = heap(&mut helper);
            let after = eventually("the figure stays", || {
                let now = heap(&mut helper);
                if std::mem::replace(&mut last, now) == now { Ok(now) } else { Err(now.to_string()) }
            });
            // The worker's memory for reuse is a row of its own.
            let more = after.saturating_sub(before);
            let each = more.saturating_sub(if bytes_max < READ { 0 } else { REUSE }) / connections as u64;
            // A ring may bring up to four buffers more before it hears that nothing is read.
            let is_epoll = std::env::var("RESAY_BACKEND").as_deref() == Ok("epoll");
            let bytes_max = if is_epoll || bytes_max < READ { bytes_max } else { bytes_max + 4 * (64 << 10) };
            eprintln!("FIGURE: {each} bytes a connection, {bytes_max} allowed: {state}");
            assert!(each <= bytes_max, "{each} bytes a connection, over {bytes_max}: {state}");
            helper.tell("next");
            drop(peers);
        }
        helper.finish();
    });
}

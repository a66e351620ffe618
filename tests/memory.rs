//! What serving costs, measured in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;

const URL: &str = "tcp://127.0.0.1:0";

/// A server that says its URL, and then, whenever it is asked, how many connections are open and how many bytes of
/// memory are its own; `swap N` swaps its chain so many times.
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
        say(&format!("{} {}", engine.stats().open, own_memory()));
    }
    finish(engine);
}

/// Pages that this process has written to and shares with nobody: heap, stacks, data.
fn own_memory() -> u64 {
    memory_figure("/proc/self/smaps_rollup", "Private_Dirty")
}

/// Open connections and memory.
fn ask(helper: &mut Helper, line: &str) -> (u64, u64) {
    helper.tell(line);
    let line = helper.hear();
    let (open, bytes) = line.split_once(' ').unwrap();
    (open.parse().unwrap(), bytes.parse().unwrap())
}

/// Waits until the server has so many connections, and gives its memory then.
fn memory_with(helper: &mut Helper, connections: u64) -> u64 {
    eventually("the connections are there", || match ask(helper, "") {
        (open, bytes) if open == connections => Ok(bytes),
        (open, _) => Err(format!("{open} of {connections}")),
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
        let before = memory_with(&mut helper, 0);
        let peers = connect(&url, COUNT);
        let after = memory_with(&mut helper, COUNT as u64);
        let each = (after - before) / COUNT as u64;
        eprintln!(
            "FIGURE: {each} bytes for each of {COUNT} idle connections ({before} before, {after} after)"
        );
        assert!(each <= 1024, "{each} bytes for each of {COUNT} connections");
        drop(peers);
        memory_with(&mut helper, 0);
        let peers = connect(&url, COUNT);
        let again = memory_with(&mut helper, COUNT as u64);
        assert!(again <= after + (1 << 20), "{after} bytes the first time, {again} the second");
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
        let before = memory_with(&mut helper, 200);
        let data = vec![b'X'; 2 << 20];
        for peer in &peers[..20] {
            assert_same("megabytes", &data, &exchange(peer, &data, data.len()));
        }
        let some = memory_with(&mut helper, 200);
        for peer in &peers[20..] {
            assert_same("megabytes", &data, &exchange(peer, &data, data.len()));
        }
        let all = memory_with(&mut helper, 200);
        eprintln!("FIGURE: {before} bytes before, {some} after 20 busy connections, {all} after 200");
        // A worker keeps some buffers for reuse, so the first few cost something; ten times as many do not.
        assert!(some <= before + (24 << 20), "{before} bytes before, {some} after 20 busy connections");
        assert!(all <= some + (2 << 20), "{some} bytes after 20 busy connections, {all} after 200");
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
        let mut after = Vec::new();
        for _ in 0..4 {
            let (_, bytes) = ask(&mut helper, "swap 1000");
            after.push(bytes);
            // They live on, whatever chain they have now.
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"SWAPPED"), b"SWAPPED"));
        }
        eprintln!("FIGURE: {after:?} bytes after each thousand swaps");
        assert!(after[3] <= after[0] + (512 << 10), "{after:?}");
        drop(peers);
        helper.finish();
    });
}

//! The smallest server: it answers each line in capitals, on a thread of its own. A client asks it once.
//!
//! `cargo run --example echo` prints:
//!
//! ```text
//! serving tcp://127.0.0.1:PORT
//! hello -> HELLO
//! ```

use std::time::Duration;

use resay::{Client, Engine};

fn main() -> resay::Result<()> {
    let limit = Duration::from_secs(5);
    let engine = Engine::builder().listen("tcp://127.0.0.1:0?frame=lines")?.chain("uppercase")?.start()?;
    let url = &engine.urls()[0];
    println!("serving {url}");

    let client = Client::open(url, Some(limit))?;
    client.send(b"hello\n", Some(limit))?;
    let mut answer = [0; 64];
    let len = client.recv(&mut answer, Some(limit))?;
    println!("hello -> {}", String::from_utf8_lossy(answer[..len].trim_ascii_end()));

    // A server would now wait until it is to end: `engine.join(…)`, or a signal.
    engine.drain(limit)
}

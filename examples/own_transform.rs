//! A closure of the program as a transform: it is registered by name, and chains use it beside the bundled ones.
//!
//! `cargo run --example own_transform` prints:
//!
//! ```text
//! hello   -> HELLO (1)
//! goodbye -> GOODBYE (2)
//! quiet!  -> QUIET!
//! 2 messages were numbered
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use resay::{Client, Engine, Message, Output, Transform, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let limit = Some(Duration::from_secs(5));
    let numbered = Arc::new(AtomicU64::new(0));

    // Every worker calls it, several at once if there are several: what it changes is atomic, or behind a lock.
    let counter = Arc::clone(&numbered);
    let number = Transform::from_fn("number", move |message: &Message<'_>, out: &mut Output<'_>| {
        if message.ends_with(b"!") {
            return Verdict::Pass; // as it is, without a copy
        }
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        out.write(message);
        out.write(format!(" ({count})").as_bytes());
        Verdict::Replace
    })?;

    // Each datagram is a message; a stream would need a `frame`.
    let engine = Engine::builder()
        .register(number)
        .listen("udp://127.0.0.1:0")?
        .chain("number | uppercase")?
        .start()?;
    let client = Client::open(&engine.urls()[0], limit)?;
    for message in ["hello", "goodbye", "quiet!"] {
        client.send(message.as_bytes(), limit)?;
        let mut answer = [0; 64];
        let len = client.recv(&mut answer, limit)?;
        println!("{message:<7} -> {}", String::from_utf8_lossy(&answer[..len]));
    }
    engine.drain(Duration::from_secs(5))?;
    println!("{} messages were numbered", numbered.load(Ordering::Relaxed));
    Ok(())
}

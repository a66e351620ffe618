//! Other transforms while a client talks: its connection stays, and no message passes through two chains.
//!
//! `cargo run --example hot_swap` prints:
//!
//! ```text
//! identity            hello -> hello
//! uppercase           hello -> HELLO
//! uppercase | reverse hello -> OLLEH
//! hex                 hello -> 68656c6c6f
//! no such chain: unknown transform "upercase", did you mean "uppercase"?
//! hex                 hello -> 68656c6c6f
//! 1 connection, 5 messages
//! ```

use std::time::Duration;

use resay::{Client, Engine};

const LIMIT: Duration = Duration::from_secs(5);

fn main() -> resay::Result<()> {
    let engine = Engine::builder().listen("tcp://127.0.0.1:0?frame=lines")?.start()?;
    let client = Client::open(&engine.urls()[0], Some(LIMIT))?;
    for chain in ["identity", "uppercase", "uppercase | reverse", "hex"] {
        engine.set_chain(chain)?;
        ask(&client, chain)?;
    }

    // A chain that cannot be made changes nothing.
    if let Err(error) = engine.set_chain("upercase") {
        println!("no such chain: {error}");
    }
    ask(&client, &engine.chain())?;

    drop(client);
    engine.drain(LIMIT)?;
    let stats = engine.stats();
    println!("{} connection, {} messages", stats.accepted, stats.messages_in);
    Ok(())
}

/// The worker takes a new chain at its next turn, which this message begins.
fn ask(client: &Client, chain: &str) -> resay::Result<()> {
    client.send(b"hello\n", Some(LIMIT))?;
    let mut answer = [0; 64];
    let len = client.recv(&mut answer, Some(LIMIT))?;
    println!("{chain:<19} hello -> {}", String::from_utf8_lossy(answer[..len].trim_ascii_end()));
    Ok(())
}

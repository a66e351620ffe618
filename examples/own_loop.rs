//! An engine inside the program's own event loop, here one of mio: no thread is made, and no call waits but the loop's.
//!
//! `cargo run --example own_loop` prints:
//!
//! ```text
//! hello -> HELLO
//! the engine has ended
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use resay::Engine;

const ENGINE: Token = Token(0);
const CLIENT: Token = Token(1);

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().listen("tcp://127.0.0.1:0")?.chain("uppercase")?.build()?;

    // The rest of the program: here a client of this very server.
    let address = engine.urls()[0].trim_start_matches("tcp://").parse()?;
    let mut client = TcpStream::connect(address)?;
    let (mut has_asked, mut answer) = (false, Vec::new());

    let mut poll = Poll::new()?;
    let fd = engine.poll_fd()?;
    poll.registry().register(&mut SourceFd(&fd), ENGINE, Interest::READABLE)?;
    poll.registry().register(&mut client, CLIENT, Interest::READABLE | Interest::WRITABLE)?;

    let mut events = Events::with_capacity(64);
    while engine.run(Some(Duration::ZERO))? {
        // mio reports changes only. Registered again, the engine's descriptor is reported also for what the turn left.
        poll.registry().reregister(&mut SourceFd(&fd), ENGINE, Interest::READABLE)?;
        poll.poll(&mut events, engine.poll_timeout())?;
        for event in events.iter().filter(|event| event.token() == CLIENT) {
            if event.is_writable() && !has_asked {
                has_asked = client.write(b"hello")? > 0;
            }
            let mut buffer = [0; 64];
            if event.is_readable() && answer.len() < 5 {
                let len = client.read(&mut buffer)?;
                answer.extend_from_slice(&buffer[..len]);
            }
        }
        if answer.len() == 5 {
            engine.stop(); // the next turn ends it
        }
    }
    println!("hello -> {}", String::from_utf8_lossy(&answer));
    println!("the engine has ended");
    Ok(())
}

//! Resay through its public interface: one worker thread, one chain.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use resay::{Backend, Engine};

/// How Resay is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing said about the driver.
    Auto,
    Epoll,
    Uring,
    /// As `Auto`, and every message in capitals.
    Uppercase,
}

impl Variant {
    pub(crate) const ALL: [Variant; 4] = [Variant::Auto, Variant::Epoll, Variant::Uring, Variant::Uppercase];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Variant::Auto => "auto",
            Variant::Epoll => "epoll",
            Variant::Uring => "uring",
            Variant::Uppercase => "uppercase",
        }
    }
}

/// As the other servers have it: bursts of datagrams wait here.
const DATAGRAM_OPTIONS: &str = "rcvbuf=4m";

/// Serves until the process is ended.
pub(crate) fn serve(variant: Variant, kind: &str, place: &str) -> Result<(), Box<dyn Error>> {
    let url = match kind {
        "unix" => format!("unix:{place}"),
        "udp" => format!("udp://127.0.0.1:{place}?{DATAGRAM_OPTIONS}"),
        kind => format!("{kind}://127.0.0.1:{place}"),
    };
    let chain = match variant {
        Variant::Uppercase => format!("\"{}\"", uppercase_library()?.display()),
        Variant::Auto | Variant::Epoll | Variant::Uring => "identity".to_owned(),
    };
    let _engine = Engine::builder().listen(&url)?.chain(&chain)?.backend(backend(variant)).start()?;
    loop {
        std::thread::park();
    }
}

fn backend(variant: Variant) -> Backend {
    match variant {
        Variant::Auto | Variant::Uppercase => Backend::Auto,
        Variant::Epoll => Backend::Epoll,
        Variant::Uring => Backend::Uring,
    }
}

/// Why this variant cannot run here, if it cannot.
pub(crate) fn missing(variant: Variant) -> Option<String> {
    let library = match variant {
        Variant::Uppercase => uppercase_library().err(),
        Variant::Auto | Variant::Epoll | Variant::Uring => None,
    };
    let kernel = || Engine::builder().backend(backend(variant)).start().err().map(|error| error.to_string());
    library.map(|error| error.to_string()).or_else(kernel)
}

/// `libuppercase.so` of the same build, among the examples.
fn uppercase_library() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let library = program.with_file_name("examples").join("libuppercase.so");
    if library.is_file() {
        return Ok(library);
    }
    let text = format!(
        "{} is not there: cargo build --release --package resay-transforms --examples makes it",
        library.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

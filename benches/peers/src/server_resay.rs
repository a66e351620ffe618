//! Resay through its public API: one worker thread, the plain echo or one transform from its shared library.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use resay::{Backend, Engine};

/// Serves with this chain until the process is ended.
pub(crate) fn serve(chain: &str, backend: Backend) -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().listen("tcp://127.0.0.1:0")?.chain(chain)?.backend(backend).start()?;
    let urls = engine.urls();
    let address = urls.first().map(|url| url.trim_start_matches("tcp://")).unwrap_or_default();
    crate::server::announce(address.parse()?)?;
    crate::server::wait_for_the_end()?;
    Ok(())
}

/// Why there is no io_uring here, if there is none.
pub(crate) fn missing_uring() -> Option<String> {
    Engine::builder().backend(Backend::Uring).start().err().map(|error| error.to_string())
}

/// `libuppercase.so` of the same build, beside this program.
pub(crate) fn uppercase_library() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let library = program.with_file_name("libuppercase.so");
    if library.is_file() {
        return Ok(library);
    }
    let text = format!("{} is not there: `cargo build --release` makes it", library.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

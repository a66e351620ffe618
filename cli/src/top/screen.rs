//! The terminal, which is as it was before whenever the view ends: by a key, a signal, a failure or a panic.

use std::io::{self, Stdout, Write};
use std::panic;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};

/// What a process exits with after a panic.
const PANICKED: i32 = 101;

static IS_ENTERED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// A terminal with a screen of our own. Dropping it gives back the old one.
#[derive(Debug)]
pub(super) struct Screen(pub(super) Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(super) fn enter() -> io::Result<Screen> {
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // First the screen: the message is for the one below.
                let was_entered = restore();
                previous(info);
                // A view without one of its threads would stand still.
                if was_entered && thread::current().name() != Some("main") {
                    process::exit(PANICKED);
                }
            }));
        });
        IS_ENTERED.store(true, Ordering::SeqCst);
        // What fails is undone, as far as it went.
        let entered = enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        entered.map(Screen).inspect_err(|_| {
            restore();
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether there was anything to restore.
fn restore() -> bool {
    let was_entered = IS_ENTERED.swap(false, Ordering::SeqCst);
    if was_entered {
        // The terminal may be gone.
        let _ = leave(&mut io::stdout());
        let _ = disable_raw_mode();
    }
    was_entered
}

fn leave(output: &mut impl Write) -> io::Result<()> {
    queue!(output, LeaveAlternateScreen, Show)?;
    output.flush()
}

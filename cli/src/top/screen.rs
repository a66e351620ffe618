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

use crate::output;

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
                let is_over = panicked(|| previous(info));
                // A view without one of its threads would stand still.
                if is_over && thread::current().name() != Some("main") {
                    process::exit(PANICKED);
                }
            }));
        });
        IS_ENTERED.store(true, Ordering::SeqCst);
        // What fails is undone, as far as it went.
        let entered = enable_raw_mode()
            .and_then(|()| execute!(output::terminal(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(output::terminal())));
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

/// First the screen: the message is for the one below. Whether there was a view.
fn panicked(report: impl FnOnce()) -> bool {
    let was_entered = restore();
    report();
    was_entered
}

/// Whether there was anything to restore.
fn restore() -> bool {
    let was_entered = IS_ENTERED.swap(false, Ordering::SeqCst);
    if was_entered {
        // The terminal may be gone.
        let _ = leave(&mut output::terminal());
        let _ = disable_raw_mode();
    }
    was_entered
}

fn leave(output: &mut impl Write) -> io::Result<()> {
    queue!(output, LeaveAlternateScreen, Show)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_on_the_screen_below() {
        // Nobody has a screen of ours.
        assert!(!panicked(|| {}));
        IS_ENTERED.store(true, Ordering::SeqCst);
        let mut was_restored = false;
        assert!(panicked(|| was_restored = !IS_ENTERED.load(Ordering::SeqCst)));
        assert!(was_restored && !restore());
    }

    #[test]
    fn what_was_switched_on_is_switched_off() {
        let mut written = Vec::new();
        leave(&mut written).unwrap();
        // The other screen, and the cursor.
        assert_eq!(written.escape_ascii().to_string(), r"\x1b[?1049l\x1b[?25h");
    }
}

//! What is drawn over the view: help, questions, and a line that is typed.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::Dialog;
use super::prompt::{Prompt, Purpose};

const WIDTH_MAX: u16 = 82;

const HELP: &str = "\
↑ ↓ PgUp PgDn   select a listener, or a connection
Tab             to the other list
← → 1-9         to another server
/               show only rows with a text: of listeners their name, URL
                and reasons, of connections also the peer. Enter keeps
                it, Esc clears it
c               swap the chain of the selected listener; of `all`: the
                chain of listeners without one of their own
d               drain the server: answer what has arrived, then end
x               close the selected connection in good order
X               close it at once, with a reset
q Ctrl-C        quit; servers go on

IN/S and OUT/S count messages, B/S bytes. P50 and P99 are of the last
minute, of one call in 64 turns, in all chains. BUSY is processor time
of a worker, WAITS time in which it had work and no processor, TURN how
long ago its last turn began. WAITING are bytes of answers that the peer
has not read, IDLE is the time since its last input.";

pub(super) fn draw(dialog: Option<&Dialog>, frame: &mut Frame<'_>) {
    let room = usize::from(room(frame.area()));
    match dialog {
        Some(Dialog::Help) => {
            let lines = wrapped(HELP, room).into_iter().map(Line::from).collect();
            message(frame, "Help: any key closes it", lines);
        }
        Some(Dialog::Close { connection, peer, is_reset }) => {
            let how = if *is_reset { " at once: what waits is lost" } else { "" };
            let question = format!("Close connection {connection} from {peer}{how}?");
            let mut lines: Vec<_> = wrapped(&question, room).into_iter().map(Line::from).collect();
            lines.push(Line::from("y yes, Esc no").dim());
            message(frame, "Close", lines);
        }
        Some(Dialog::Prompt(prompt)) => ask(frame, prompt),
        // It has the last line, so that all rows are in sight.
        Some(Dialog::Filter(_)) | None => {}
    }
}

/// Draws the lines in the middle of the screen; where the first one is.
fn message(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) -> Position {
    let area = frame.area();
    let width = room(area) + 2;
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(Span::from(format!(" {title} ")).bold());
    let inside = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
    Position::new(inside.x, inside.y)
}

/// Columns that a line has.
fn room(area: Rect) -> u16 {
    area.width.saturating_sub(4).min(WIDTH_MAX)
}

fn ask(frame: &mut Frame<'_>, prompt: &Prompt) {
    let (title, hint) = match &prompt.purpose {
        Purpose::Chain { label, .. } => {
            (format!("Chain of {label}"), "Enter swaps it, Esc leaves it. Empty: the plain echo.")
        }
        Purpose::Drain => {
            ("Drain the server within".to_owned(), "Enter drains, Esc does not. The server ends.")
        }
    };
    let room = usize::from(room(frame.area()));
    let shown = window(&prompt.line.text, prompt.line.cursor, room);
    let mut lines = vec![Line::from(shown.text)];
    if let Some(fault) = &prompt.fault {
        if fault.at == Some(prompt.line.cursor) {
            lines.push(Line::from(format!("{:>width$}", '^', width = shown.column + 1)).red());
        }
        lines.extend(wrapped(&fault.text, room).into_iter().map(|line| Line::from(line).red()));
    }
    lines.push(Line::from(if prompt.is_asking { "waiting for the server…" } else { hint }).dim());
    let first = message(frame, &title, lines);
    if !prompt.is_asking {
        let column = u16::try_from(shown.column).unwrap_or(0);
        frame.set_cursor_position(Position::new(first.x + column, first.y));
    }
}

/// A part of a line that has room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) text: String,
    /// Where the cursor is in it.
    pub(super) column: usize,
}

/// The part of `text` around the byte `cursor` that `room` columns have room for, with a column more for the cursor itself.
pub(super) fn window(text: &str, cursor: usize, room: usize) -> Window {
    let width = |text: &str| Span::from(text).width();
    let room = room.saturating_sub(1);
    let (before, after) = text.split_at_checked(cursor).unwrap_or((text, ""));
    let mut start = 0;
    while width(before.get(start..).unwrap_or_default()) > room {
        start += before.get(start..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    }
    let before = before.get(start..).unwrap_or_default();
    let column = width(before);
    let mut shown = before.to_owned();
    for letter in after.chars() {
        shown.push(letter);
        if width(&shown) > room {
            shown.pop();
            break;
        }
    }
    Window { text: shown, column }
}

/// The lines of a text, broken where they are longer than `room` columns: between words, if there are any.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let width = |text: &str| Span::from(text).width();
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut rest = line;
        while width(rest) > room {
            let fits = rest.char_indices().map(|(at, letter)| at + letter.len_utf8());
            let most = fits.take_while(|end| width(rest.get(..*end).unwrap_or_default()) <= room).last();
            // A letter that is wider than the room has a line all the same.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let most = most.unwrap_or(first);
            let head = rest.get(..most).unwrap_or_default();
            let end = head.rfind(' ').filter(|end| !head.get(..*end).unwrap_or_default().trim().is_empty());
            let (head, tail) = rest.split_at_checked(end.unwrap_or(most)).unwrap_or((rest, ""));
            lines.push(head.to_owned());
            rest = tail.trim_start();
        }
        lines.push(rest.to_owned());
    }
    lines
}

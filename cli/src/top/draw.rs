//! The screen. It has no frames but a line above each part, so that a usual terminal has room for all of them.
//!
//! ```text
//! servers
//! the current one
//! ── Listeners ──────────────────────────────
//! ── Chain ────── Drops, closes ── Workers ──
//! ── Slow connections ───────────────────────
//! keys, or what became of an order
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState, Wrap};

use super::app::{App, Dialog, Focus, Notice, View};
use super::figures::Figures;
use super::prompt::Typed;
use super::{dialog, rows};
use crate::ctl::text::{duration_text, printable};

pub(super) const WIDTH_MIN: u16 = 60;
pub(super) const HEIGHT_MIN: u16 = 16;
/// With these there is room for chains of listeners, and for listeners of connections.
const WIDE: u16 = 100;

const KEYS: &str = "q quit  ? help  ↑↓ Tab select  / filter  c chain  d drain  x close  ←→ server";

pub(super) fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!(
            "This terminal is too small: it has {} columns and {} lines, and `resay top` needs {WIDTH_MIN} and \
             {HEIGHT_MIN}. q quits.",
            area.width, area.height
        );
        return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
    }
    let Some(view) = app.view() else { return };
    let [tabs, state, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(tabs_line(app), tabs);
    frame.render_widget(state_line(view), state);
    if let Some(figures) = &view.figures {
        body_of(app, view, figures, frame, body);
    }
    match &app.dialog {
        Some(Dialog::Filter(line)) => draw_filter(line, frame, foot),
        _ => frame.render_widget(foot_line(app), foot),
    }
    dialog::draw(app.dialog.as_ref(), frame);
}

fn tabs_line(app: &App) -> Line<'static> {
    let mut spans = vec!["resay top ".bold()];
    for (place, view) in app.servers.iter().enumerate() {
        let text = format!(" {} {} ", place + 1, printable(&view.name));
        let style = if view.gone.is_some() { Style::new().fg(Color::Red) } else { Style::new() };
        let is_current = place == app.current;
        spans.push(Span::styled(text, if is_current { style.reversed() } else { style }));
    }
    spans.push(Span::from(format!("  every {}", resay::options::duration_text(app.interval))).dim());
    Line::from(spans)
}

fn state_line(view: &View) -> Line<'static> {
    if let Some(reason) = &view.gone {
        return Line::from(format!("gone: {reason}; trying again")).red();
    }
    let Some(figures) = &view.figures else { return Line::from("asking…").dim() };
    let state = printable(&figures.state.replace('_', " "));
    let text = format!(
        "resay {}, process {}, up {}, ",
        printable(&figures.version),
        figures.pid,
        duration_text(figures.uptime_ms)
    );
    let color = if figures.state == "serving" { Color::Green } else { Color::Yellow };
    Line::from(vec![Span::from(text), Span::from(state).fg(color)])
}

fn foot_line(app: &App) -> Line<'static> {
    match &app.notice {
        Some(Notice { text, is_bad: false }) => Line::from(text.clone()).green(),
        Some(Notice { text, is_bad: true }) => Line::from(text.clone()).red(),
        None if app.filter.text().is_empty() => Line::from(KEYS).dim(),
        None => {
            let filter = format!("only with {}, Esc shows all  ", app.filter.text());
            Line::from(vec![Span::from(filter).yellow(), Span::from(KEYS).dim()])
        }
    }
}

/// The text that is looked for, while it is typed.
fn draw_filter(line: &Typed, frame: &mut Frame<'_>, area: Rect) {
    const HINT: &str = "  Enter keeps it, Esc clears it";
    let hint = Span::from(HINT).dim();
    let room = usize::from(area.width).saturating_sub(hint.width() + 1);
    let shown = dialog::window(&line.text, line.cursor, room);
    let column = u16::try_from(shown.column + 1).unwrap_or(0);
    frame.render_widget(Line::from(vec!["/".yellow(), shown.text.into(), hint]), area);
    frame.set_cursor_position(Position::new(area.x + column, area.y));
}

fn body_of(app: &App, view: &View, figures: &Figures, frame: &mut Frame<'_>, area: Rect) {
    let listener = view.listener();
    let listeners = rows::listeners(figures, view.has_rates);
    let stages = rows::stages(listener.map_or(&figures.transforms, |listener| &listener.stages));
    let counted = listener.map_or(&figures.totals, |listener| &listener.counted);
    let reasons = app.filter.reasons(rows::reasons(counted, view.has_rates));
    let (listeners_left_out, connections_left_out) = view.left_out();
    let workers = rows::workers(&figures.workers);
    let middle = [stages.len(), reasons.len(), workers.len()].into_iter().max().unwrap_or(0);
    let [top, middle, bottom] = heights(area.height, listeners.len(), middle);
    let [top, middle, bottom] = Layout::vertical([top, middle, bottom].map(Constraint::Length)).areas(area);
    let is_gone = view.gone.is_some();
    let is_wide = area.width >= WIDE;

    let widths = [
        Constraint::Fill(3),
        if is_wide { Constraint::Fill(2) } else { Constraint::Length(0) },
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(7),
        Constraint::Length(8),
    ];
    let title = part_title("Listeners", listeners_left_out);
    let part = Part { title: &title, is_focused: app.focus == Focus::Listeners, is_gone };
    part.draw(frame, top, rows::LISTENERS, &widths, listeners, Some(view.listener_place()));

    let [left, center, right] =
        Layout::horizontal([Constraint::Fill(11), Constraint::Fill(15), Constraint::Fill(11)])
            .spacing(1)
            .areas(middle);
    let title = if listener.is_some() { "Chain" } else { "Transforms" };
    let if_wide = |width| if is_wide { Constraint::Length(width) } else { Constraint::Length(0) };
    let widths = [Constraint::Fill(1), Constraint::Length(5), Constraint::Length(5), if_wide(5)];
    Part { title, is_focused: false, is_gone }.draw(frame, left, rows::STAGES, &widths, stages, None);
    let widths = [Constraint::Fill(1), Constraint::Length(6), Constraint::Length(5)];
    let part = Part { title: "Drops and closes", is_focused: false, is_gone };
    part.draw(frame, center, rows::REASONS, &widths, reasons, None);
    let widths = [
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(5),
        if_wide(4),
        Constraint::Fill(1),
    ];
    let part = Part { title: "Workers", is_focused: false, is_gone };
    part.draw(frame, right, rows::WORKERS, &widths, workers, None);

    let connections = rows::connections(&figures.connections);
    let widths = [
        Constraint::Length(8),
        Constraint::Fill(3),
        if is_wide { Constraint::Fill(2) } else { Constraint::Length(0) },
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(6),
    ];
    let title = part_title("Slow connections", connections_left_out);
    let part = Part { title: &title, is_focused: app.focus == Focus::Connections, is_gone };
    part.draw(frame, bottom, rows::CONNECTIONS, &widths, connections, view.connection_place());
}

/// A list that lacks some rows says so: nobody is to take it for all that there is.
fn part_title(title: &str, left_out: usize) -> String {
    if left_out == 0 { title.to_owned() } else { format!("{title}, {left_out} left out") }
}

/// Of the three parts, with their titles and heads, for so many rows of the first two. Each has at least one row.
pub(super) fn heights(height: u16, listeners: usize, middle: usize) -> [u16; 3] {
    let wanted = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2).max(3);
    let top = wanted(listeners).min((height / 3).max(4));
    let middle = wanted(middle).min((height / 3).max(4));
    [top, middle, height.saturating_sub(top + middle)]
}

/// One of the parts of the screen.
struct Part<'a> {
    title: &'a str,
    is_focused: bool,
    is_gone: bool,
}

impl Part<'_> {
    fn draw<const N: usize>(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        head: [&str; N],
        widths: &[Constraint; N],
        rows: Vec<[String; N]>,
        selected: Option<usize>,
    ) {
        let shown = |cells: [String; N]| {
            // A column without a width would still have the space before it.
            let cells = cells.into_iter().zip(widths).filter(|(_, width)| **width != Constraint::Length(0));
            // Those of a fixed width have figures, or a word.
            let line = |(cell, width): (String, &Constraint)| match width {
                Constraint::Length(_) => Line::from(cell).right_aligned(),
                _ => Line::from(cell),
            };
            Row::new(cells.map(line).collect::<Vec<_>>())
        };
        let widths_shown = widths.iter().copied().filter(|width| *width != Constraint::Length(0));
        let title = Span::from(format!("{} ", self.title));
        // The line beside it is dim.
        let title = title.bold().not_dim();
        let title = if self.is_focused { title.cyan() } else { title };
        let style = if self.is_gone { Style::new().dim() } else { Style::new() };
        let selection = if self.is_focused { Modifier::REVERSED } else { Modifier::BOLD };
        let table = Table::new(rows.into_iter().map(shown), widths_shown)
            .header(shown(head.map(str::to_owned)).dim())
            .block(Block::new().borders(Borders::TOP).border_style(Style::new().dim()).title(title))
            .row_highlight_style(Style::new().add_modifier(selection))
            .style(style);
        frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(selected));
    }
}

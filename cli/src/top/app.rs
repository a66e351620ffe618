//! What is on the screen, and what keys and news make of it. Knows no terminal and asks no server.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::figures::{Figures, ListenerFigures};
use super::filter::Filter;
use super::order::Order;
use super::prompt::{Prompt, Purpose, Typed};
use super::sample::Sample;
use crate::control::report::{Connection, Times};
use crate::ctl::text::printable;
use crate::exit::Failure;

/// Times of transforms are of this time: one call in 64 is timed, and a second may have none.
const TIMES_WINDOW: Duration = Duration::from_secs(60);
const DRAIN_TIME: &str = "5s";

#[derive(Debug)]
pub(super) struct App {
    /// At least one.
    pub(super) servers: Vec<View>,
    pub(super) current: usize,
    pub(super) focus: Focus,
    pub(super) dialog: Option<Dialog>,
    /// Of all servers.
    pub(super) filter: Filter,
    /// What has become of the last order.
    pub(super) notice: Option<Notice>,
    pub(super) interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    Listeners,
    Connections,
}

#[derive(Debug)]
pub(super) enum Dialog {
    Help,
    Prompt(Prompt),
    /// A text that is looked for; it holds while it is typed.
    Filter(Typed),
    Close {
        connection: u64,
        peer: String,
        is_reset: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// What is to be done for a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    Interrupt,
    /// For the server with this number.
    Give(usize, Order),
}

/// A server, as it is shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) name: String,
    sample: Option<Sample>,
    times: VecDeque<(Instant, Vec<Times>)>,
    /// All that is known; `None`: it has not answered yet.
    all: Option<Figures>,
    /// What of it is shown.
    pub(super) figures: Option<Figures>,
    /// There were two samples of it.
    pub(super) has_rates: bool,
    /// Why it is gone, if it is.
    pub(super) gone: Option<String>,
    /// The URL of the selected listener; `None`: all of them.
    listener: Option<String>,
    connection: Option<u64>,
}

impl App {
    pub(super) fn new(names: impl IntoIterator<Item = String>, interval: Duration) -> App {
        App {
            servers: names.into_iter().map(View::new).collect(),
            current: 0,
            focus: Focus::Listeners,
            dialog: None,
            filter: Filter::default(),
            notice: None,
            interval,
        }
    }

    pub(super) fn view(&self) -> Option<&View> {
        self.servers.get(self.current)
    }

    pub(super) fn sampled(&mut self, server: usize, result: Result<Sample, Failure>) {
        if let Some(view) = self.servers.get_mut(server) {
            view.sampled(result, &self.filter);
        }
    }

    /// An order was carried out, or refused.
    pub(super) fn done(&mut self, order: &Order, result: Result<String, Failure>) {
        let asks = |dialog: &Dialog| matches!((dialog, order), (Dialog::Prompt(prompt), Order::Chain { .. } | Order::Drain { .. }) if prompt.is_asking);
        match (result, self.dialog.take_if(|dialog| asks(dialog))) {
            (Err(failure), Some(Dialog::Prompt(mut prompt))) => {
                prompt.refused(failure);
                self.dialog = Some(Dialog::Prompt(prompt));
            }
            (Ok(text), _) => self.notice = Some(Notice { text, is_bad: false }),
            (Err(failure), _) => {
                let lines: Vec<_> = failure.text().lines().map(printable).collect();
                self.notice = Some(Notice { text: lines.join(" "), is_bad: true });
            }
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Action::Interrupt;
        }
        self.notice = None;
        match self.dialog.take() {
            Some(dialog) => self.answer(dialog, key),
            None => self.command(key.code),
        }
    }

    fn command(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.dialog = Some(Dialog::Help),
            KeyCode::Char('/') => self.dialog = Some(Dialog::Filter(Typed::new(self.filter.text()))),
            KeyCode::Esc => self.look_for(""),
            KeyCode::Tab => {
                self.focus = match self.focus {
                    Focus::Listeners => Focus::Connections,
                    Focus::Connections => Focus::Listeners,
                };
            }
            KeyCode::Left => self.current = self.current.saturating_sub(1),
            KeyCode::Right => self.current = (self.current + 1).min(self.servers.len() - 1),
            KeyCode::Char(digit @ '1'..='9') => {
                let place = usize::from(digit as u8 - b'1');
                if place < self.servers.len() {
                    self.current = place;
                }
            }
            KeyCode::Up | KeyCode::Char('k') => self.select(|place| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|place| place.saturating_add(1)),
            KeyCode::PageUp => self.select(|place| place.saturating_sub(10)),
            KeyCode::PageDown => self.select(|place| place.saturating_add(10)),
            KeyCode::Home => self.select(|_| 0),
            KeyCode::End => self.select(|_| usize::MAX),
            KeyCode::Char('c') => self.dialog = self.view().and_then(View::chain_prompt).map(Dialog::Prompt),
            KeyCode::Char('d') => {
                let is_there = self.view().is_some_and(|view| view.figures.is_some());
                self.dialog = is_there.then(|| Dialog::Prompt(Prompt::new(Purpose::Drain, DRAIN_TIME)));
            }
            KeyCode::Char(letter @ ('x' | 'X')) => {
                let connection = self.view().and_then(View::connection);
                self.dialog = connection.map(|connection| Dialog::Close {
                    connection: connection.id,
                    peer: printable(&connection.peer),
                    is_reset: letter == 'X',
                });
            }
            _ => {}
        }
        Action::None
    }

    /// A key while there is a dialog, which stays if it is put back.
    fn answer(&mut self, dialog: Dialog, key: KeyEvent) -> Action {
        match (dialog, key.code) {
            (Dialog::Filter(_), KeyCode::Enter) => {}
            (Dialog::Filter(_), KeyCode::Esc) => self.look_for(""),
            (Dialog::Filter(mut line), _) => {
                if line.edit(key) {
                    self.look_for(&line.text);
                }
                self.dialog = Some(Dialog::Filter(line));
            }
            (Dialog::Help, _) | (_, KeyCode::Esc) => {}
            (Dialog::Close { connection, is_reset, .. }, KeyCode::Char('y') | KeyCode::Enter) => {
                return Action::Give(self.current, Order::Close { connection, is_reset });
            }
            (Dialog::Close { .. }, _) => {}
            // It waits for the server.
            (Dialog::Prompt(prompt), _) if prompt.is_asking => self.dialog = Some(Dialog::Prompt(prompt)),
            (Dialog::Prompt(mut prompt), KeyCode::Enter) => {
                let order = prompt.order();
                self.dialog = Some(Dialog::Prompt(prompt));
                return order.map_or(Action::None, |order| Action::Give(self.current, order));
            }
            (Dialog::Prompt(mut prompt), _) => {
                prompt.edit(key);
                self.dialog = Some(Dialog::Prompt(prompt));
            }
        }
        Action::None
    }

    fn look_for(&mut self, text: &str) {
        self.filter = Filter::new(text);
        self.servers.iter_mut().for_each(|view| view.show(&self.filter));
    }

    fn select(&mut self, to: impl Fn(usize) -> usize) {
        let focus = self.focus;
        let Some(view) = self.servers.get_mut(self.current) else { return };
        let Some(figures) = &view.figures else { return };
        match focus {
            Focus::Listeners => {
                let place = to(view.listener_place()).min(figures.listeners.len());
                let listener = place.checked_sub(1).and_then(|place| figures.listeners.get(place));
                view.listener = listener.map(|listener| listener.url.clone());
            }
            Focus::Connections => {
                let last = figures.connections.len().saturating_sub(1);
                let place = to(view.connection_place().unwrap_or(0)).min(last);
                view.connection = figures.connections.get(place).map(|connection| connection.id);
            }
        }
    }
}

impl View {
    fn new(name: String) -> View {
        View {
            name,
            sample: None,
            times: VecDeque::new(),
            all: None,
            figures: None,
            has_rates: false,
            gone: None,
            listener: None,
            connection: None,
        }
    }

    fn sampled(&mut self, result: Result<Sample, Failure>, filter: &Filter) {
        let sample = match result {
            Ok(sample) => sample,
            Err(failure) => {
                self.gone = Some(printable(failure.text()));
                return;
            }
        };
        self.gone = None;
        let old = self.sample.as_ref().unwrap_or(&sample);
        if !old.is_continued_by(&sample) {
            self.times.clear();
        }
        let is_over = |(at, _): &(Instant, _)| sample.at.saturating_duration_since(*at) > TIMES_WINDOW;
        while self.times.len() > 1 && self.times.front().is_some_and(is_over) {
            self.times.pop_front();
        }
        let times = self.times.front().map_or(&[][..], |(_, times)| times);
        self.all = Some(Figures::of(old, &sample, times));
        self.has_rates = self.sample.is_some();
        self.times.push_back((sample.at, sample.stats.transform_times.clone()));
        self.sample = Some(sample);
        self.show(filter);
    }

    /// Shows what the filter leaves. A connection that is selected and not shown any more gives way to the one in its place.
    fn show(&mut self, filter: &Filter) {
        let place = self.connection_place().unwrap_or(0);
        self.figures = self.all.as_ref().map(|all| filter.apply(all));
        if self.connection_place().is_none() {
            let connections = self.figures.as_ref().map_or(&[][..], |figures| &figures.connections);
            let next = connections.get(place).or(connections.last());
            self.connection = next.map(|connection| connection.id);
        }
    }

    /// Where the selected listener is in the list, after the row of all.
    pub(super) fn listener_place(&self) -> usize {
        let listeners = self.figures.iter().flat_map(|figures| &figures.listeners);
        let place =
            listeners.map(|listener| &listener.url).position(|url| Some(url) == self.listener.as_ref());
        place.map_or(0, |place| place + 1)
    }

    /// The selected one; `None`: all.
    pub(super) fn listener(&self) -> Option<&ListenerFigures> {
        let place = self.listener_place().checked_sub(1)?;
        self.figures.as_ref()?.listeners.get(place)
    }

    pub(super) fn connection_place(&self) -> Option<usize> {
        let mut connections = self.figures.as_ref()?.connections.iter();
        connections.position(|connection| Some(connection.id) == self.connection)
    }

    fn connection(&self) -> Option<&Connection> {
        self.figures.as_ref()?.connections.get(self.connection_place()?)
    }

    /// How many listeners and connections the filter has left out.
    pub(super) fn left_out(&self) -> (usize, usize) {
        let count = |figures: &Figures| (figures.listeners.len(), figures.connections.len());
        let (all, shown) = (self.all.as_ref().map(count), self.figures.as_ref().map(count));
        let ((listeners, connections), shown) = (all.unwrap_or_default(), shown.unwrap_or_default());
        (listeners - shown.0, connections - shown.1)
    }

    fn chain_prompt(&self) -> Option<Prompt> {
        // Those that are not shown have chains too.
        let figures = self.all.as_ref()?;
        let (listener, label, chain) = match self.listener() {
            Some(listener) => (listener.id, printable(&listener.url), listener.chain.as_str()),
            None => {
                let label = "all listeners without a chain of their own".to_owned();
                // What most probably is the engine's.
                let only = match figures.listeners.as_slice() {
                    [only] => only.chain.as_str(),
                    _ => "",
                };
                (0, label, only)
            }
        };
        Some(Prompt::new(Purpose::Chain { listener, label }, chain))
    }
}

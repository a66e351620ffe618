//! The view at a terminal: threads that wait, and one that draws.
//!
//! ```text
//! a thread for each server: sample, pause ──┐
//! one for keys, one for signals ────────────┼──> news ──> App ──> screen
//! one for each order, until it is done ─────┘              └──> orders
//! ```

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use std::{io, thread};

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::app::{Action, App};
use super::draw::draw;
use super::order::Order;
use super::sample::Sample;
use super::screen::Screen;
use crate::exit::{Exit, Failure};
use crate::signals;

/// Something that has happened.
enum News {
    Key(KeyEvent),
    Resized,
    /// There are no keys any more.
    Deaf(io::Error),
    Signal(i32),
    Sample(usize, Box<Result<Sample, Failure>>),
    Done(Order, Result<String, Failure>),
}

pub(super) fn run(sockets: &[PathBuf], interval: Duration) -> Result<Exit, Failure> {
    let (sender, news) = mpsc::channel();
    // Before the screen is taken, so that no signal leaves it behind.
    watch_signals(sender.clone()).map_err(failed)?;
    let mut screen = Screen::enter().map_err(failed)?;
    watch_keys(sender.clone()).map_err(failed)?;
    for (server, socket) in sockets.iter().enumerate() {
        sample(server, socket.clone(), interval, sender.clone()).map_err(failed)?;
    }
    let names = sockets.iter().map(|socket| socket.display().to_string());
    let mut app = App::new(names, interval);
    loop {
        screen.0.draw(|frame| draw(&app, frame)).map_err(failed)?;
        let first = news.recv().map_err(|error| failed(io::Error::other(error)))?;
        // What has come meanwhile is drawn together.
        for news in [first].into_iter().chain(news.try_iter()) {
            match news {
                News::Key(key) => match app.key(key) {
                    Action::None => {}
                    Action::Quit => return Ok(Exit::Done),
                    Action::Interrupt => return Ok(Exit::Interrupted),
                    Action::Give(server, order) => {
                        let socket = sockets.get(server).map(PathBuf::as_path).unwrap_or(Path::new(""));
                        give(socket.to_owned(), order, sender.clone()).map_err(failed)?;
                    }
                },
                News::Resized => {}
                News::Deaf(error) => return Err(failed(error)),
                News::Signal(SIGINT) => return Ok(Exit::Interrupted),
                News::Signal(_) => return Ok(Exit::Terminated),
                News::Sample(server, result) => app.sampled(server, *result),
                News::Done(order, result) => app.done(&order, result),
            }
        }
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::new(Exit::Broken, format!("terminal: {error}"))
}

// The threads below end when nobody hears them, or with the process.

fn watch_signals(sender: Sender<News>) -> io::Result<()> {
    let mut signals = signals::handle(&[SIGTERM, SIGINT, SIGHUP])?;
    spawn("signals", move || {
        signals.forever().take_while(|signal| sender.send(News::Signal(*signal)).is_ok()).for_each(drop);
    })
}

fn watch_keys(sender: Sender<News>) -> io::Result<()> {
    spawn("keys", move || {
        loop {
            let news = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
                Ok(Event::Resize(..)) => News::Resized,
                Ok(_) => continue,
                Err(error) => {
                    let _ = sender.send(News::Deaf(error));
                    return;
                }
            };
            if sender.send(news).is_err() {
                return;
            }
        }
    })
}

fn sample(server: usize, socket: PathBuf, interval: Duration, sender: Sender<News>) -> io::Result<()> {
    spawn("sample", move || {
        while sender.send(News::Sample(server, Box::new(Sample::take(&socket)))).is_ok() {
            thread::sleep(interval);
        }
    })
}

fn give(socket: PathBuf, order: Order, sender: Sender<News>) -> io::Result<()> {
    spawn("order", move || {
        let result = order.give(&socket);
        let _ = sender.send(News::Done(order, result));
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

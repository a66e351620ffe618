//! The view on a terminal of a test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{Action, App, Dialog, Focus};
use super::dialog::{window, wrapped};
use super::draw::{draw, heights};
use super::order::Order;
use super::sample::Sample;
use crate::control::report::{Connection, Counts, ListenerCounts, State, Stats, Times, Worker};
use crate::exit::{Exit, Failure};

/// A server with some load, `seconds` after its start.
pub(super) fn sample(start: Instant, seconds: u64) -> Sample {
    let counts = |messages: u64, bytes: u64, open: u64, closed: u64, dropped: u64| Counts {
        open,
        accepted: open + closed,
        closed,
        messages_in: messages,
        messages_out: messages - dropped,
        dropped,
        bytes_in: messages * bytes,
        bytes_out: (messages - dropped) * bytes,
        closed_by: BTreeMap::from([
            ("peer_closed".to_owned(), closed - closed / 8),
            ("idle_timeout".to_owned(), closed / 8),
            ("drained".to_owned(), 0),
        ]),
        dropped_by: BTreeMap::from([("rate".to_owned(), dropped), ("loop".to_owned(), 0)]),
        ..Counts::default()
    };
    let listener = |id, name: Option<&str>, url: &str, chain: &str, counts| ListenerCounts {
        id,
        name: name.map(str::to_owned),
        url: url.to_owned(),
        chain: chain.to_owned(),
        counts,
    };
    let times = |transform: &str, fast: u64, slow: u64| Times {
        transform: transform.to_owned(),
        sum_ns: 0,
        bounds_ns: vec![50, 100, 200, 500, 1_000, 2_000],
        calls: vec![0, fast * seconds, 0, slow * seconds, 0, seconds / 30, 0],
    };
    let worker = |worker, share: f64, transform: Option<&str>| Worker {
        worker,
        last_turn_ms: 0,
        busy_ms: transform.map(|_| 0),
        transform: transform.map(str::to_owned),
        busy_seconds: Some(share * seconds as f64),
        waiting_seconds: Some(0.02 * seconds as f64),
    };
    let connection = |id, peer: &str, waiting_bytes, idle_ms, state| Connection {
        id,
        listener: "tcp://127.0.0.1:8888".to_owned(),
        peer: peer.to_owned(),
        via: None,
        facts: BTreeMap::new(),
        worker: (id % 2) as usize,
        idle_ms,
        waiting_bytes,
        state,
    };
    let listeners = vec![
        listener(
            1,
            None,
            "tcp://127.0.0.1:8888",
            "uppercase | prefix:text=\"> \"",
            counts(184_200 * seconds, 64, 48, 3 * seconds, 0),
        ),
        listener(
            2,
            None,
            "udp://127.0.0.1:8888",
            "uppercase",
            counts(9_210 * seconds, 512, 0, 0, 37 * seconds),
        ),
        listener(3, Some("local"), "unix:/run/resay/e.sock", "", counts(1_250, 16, 2, 8, 0)),
    ];
    let stats = Stats {
        version: "0.1.0".to_owned(),
        pid: 4711,
        uptime_ms: seconds * 1000,
        state: "serving".to_owned(),
        carried_over: false,
        totals: counts(193_410 * seconds + 1_250, 85, 50, 3 * seconds + 8, 37 * seconds),
        listeners,
        transforms: BTreeMap::new(),
        transforms_stuck: 0,
        transform_times: vec![times("uppercase", 80, 3), times("prefix", 40, 1)],
        workers: vec![worker(0, 0.83, Some("uppercase")), worker(1, 0.79, None)],
    };
    let connections = vec![
        connection(4103, "127.0.0.1:51234", 1_048_576, 12_000, State::Open),
        connection(4140, "127.0.0.1:51240", 65_536, 300, State::Ending),
        connection(17, "127.0.0.1:40012", 0, 3_723_000, State::Open),
        connection(9, "unix:\u{1b}[2J\n", 0, 61_000, State::Open),
    ];
    Sample { at: start + Duration::from_secs(seconds), stats, connections }
}

/// Two servers, of which the second one is gone.
pub(super) fn app() -> App {
    let names = ["/run/resay/a.ctl", "/run/resay/b.ctl"].map(str::to_owned);
    let mut app = App::new(names, Duration::from_secs(1));
    let start = Instant::now();
    for seconds in 3_600..=3_605 {
        app.sampled(0, Ok(sample(start, seconds)));
    }
    let gone = "connect unix:/run/resay/b.ctl: Connection refused";
    app.sampled(1, Err(Failure::new(Exit::Unreachable, gone)));
    app
}

pub(super) fn drawn(app: &App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(app, frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(app: &App, width: u16, height: u16) -> String {
    let buffer = drawn(app, width, height);
    let lines = (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn press(app: &mut App, code: KeyCode) -> Action {
    app.key(KeyEvent::from(code))
}

fn type_in(app: &mut App, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(app, KeyCode::Char(letter)), Action::None);
    }
}

#[test]
fn a_usual_terminal_has_room_for_all() {
    let mut app = app();
    let all = text(&app, 80, 24);
    for part in [
        " 1 /run/resay/a.ctl  2 /run/resay/b.ctl   every 1s",
        "resay 0.1.0, process 4711, up 1h 5s, serving",
        "LISTENER",
        // The sum of the listeners.
        "all                            193k   193k  16.5M   16.5M    50      37        3",
        "tcp://127.0.0.1:8888           184k   184k  11.8M   11.8M    48       0        3",
        "local unix:/run/resay/e.sock      0",
        "uppercase   100ns 500ns dropped rate ",
        " 133385    37      0  83%    2%",
        "closed peer_closed",
        "4103 127.0.0.1:51234                            1   1048576",
        "1h 2m 3s",
        "unix:\\u001b[2J\\u000a",
        "q quit  ? help",
    ] {
        assert!(all.contains(part), "{part:?}\n{all}");
    }
    // The chain of one of them, in its order.
    press(&mut app, KeyCode::Down);
    let one = text(&app, 120, 30);
    assert!(one.contains("Chain ──") && one.contains("uppercase | prefix:text="), "{one}");
    assert!(!one.contains("dropped rate"), "{one}");
    press(&mut app, KeyCode::Char('2'));
    let gone = text(&app, 80, 24);
    assert!(gone.contains("gone: connect unix:/run/resay/b.ctl: Connection refused"), "{gone}");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let app = app();
    for (width, height) in [(59, 24), (80, 15), (20, 5)] {
        let text = text(&app, width, height);
        assert!(text.starts_with("This terminal is"), "{text}");
    }
    let small = text(&app, 40, 10);
    let words: Vec<_> = small.split_whitespace().collect();
    assert!(words.join(" ").contains("40 columns and 10 lines"), "{small}");
    assert!(text(&app, 60, 16).contains("Slow connections"));
    // Nothing, and more than anybody has.
    for (width, height) in [(0, 0), (1, 1), (500, 200)] {
        text(&app, width, height);
    }
}

#[test]
fn a_server_is_shown_as_asked_gone_and_back() {
    let start = Instant::now();
    let mut app = App::new(["a\u{1b}]0;x".to_owned()], Duration::from_secs(1));
    let first = text(&app, 80, 24);
    assert!(first.contains("asking…") && first.contains("a\\u001b]0;x"), "{first}");
    app.sampled(0, Ok(sample(start, 10)));
    let one = text(&app, 80, 24);
    assert!(one.contains("all                               …      …"), "{one}");
    app.sampled(0, Ok(sample(start, 11)));
    assert!(text(&app, 80, 24).contains("193k"));
    app.sampled(0, Err(Failure::new(Exit::Unreachable, "nobody is there")));
    let gone = text(&app, 80, 24);
    // What was known of it stays.
    assert!(gone.contains("gone: nobody is there; trying again") && gone.contains("193k"), "{gone}");
    let mut back = sample(start, 15);
    back.stats.pid += 1;
    app.sampled(0, Ok(back));
    assert!(text(&app, 80, 24).contains("process 4712"));
}

#[test]
fn selections_stay_with_what_was_selected() {
    let mut app = app();
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.view().unwrap().listener().unwrap().id, 2);
    let mut next = sample(Instant::now(), 3_700);
    next.stats.listeners.remove(0);
    next.connections.remove(0);
    app.sampled(0, Ok(next.clone()));
    let view = app.view().unwrap();
    assert_eq!((view.listener().unwrap().id, view.listener_place()), (2, 1));
    // The connection that was selected is gone: the one in its place is.
    assert_eq!(view.connection_place(), Some(0));
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.focus, Focus::Connections);
    press(&mut app, KeyCode::End);
    assert_eq!(app.view().unwrap().connection_place(), Some(2));
    next.connections.truncate(1);
    app.sampled(0, Ok(next.clone()));
    assert_eq!(app.view().unwrap().connection_place(), Some(0));
    next.connections.clear();
    next.stats.listeners.clear();
    app.sampled(0, Ok(next));
    let view = app.view().unwrap();
    assert_eq!((view.connection_place(), view.listener_place()), (None, 0));
    assert_eq!(press(&mut app, KeyCode::Char('x')), Action::None);
    assert!(app.dialog.is_none());
}

#[test]
fn a_chain_is_swapped_when_the_server_takes_it() {
    let mut app = app();
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Char('c'));
    type_in(&mut app, " | Hex");
    assert_eq!(press(&mut app, KeyCode::Enter), Action::None);
    let wrong = text(&app, 80, 24);
    let lines: Vec<_> = wrong.lines().collect();
    let line = lines.iter().position(|line| line.contains("│uppercase | Hex")).unwrap();
    // The caret is below what is wrong.
    let below = |line: &str, what: char| line.chars().position(|letter| letter == what);
    assert_eq!(below(lines[line + 1], '^'), below(lines[line], 'H'), "{wrong}");
    assert!(wrong.contains("Chain of udp://127.0.0.1:8888"), "{wrong}");
    press(&mut app, KeyCode::Delete);
    type_in(&mut app, "h");
    let Action::Give(0, order) = press(&mut app, KeyCode::Enter) else { panic!() };
    assert_eq!(order, Order::Chain { listener: 2, spec: "uppercase | hex".to_owned() });
    assert!(text(&app, 80, 24).contains("waiting for the server"));
    app.done(&order, Err(Failure::new(Exit::Plugin, "unknown transform: hex")));
    let refused = text(&app, 80, 24);
    assert!(refused.contains("unknown transform: hex") && refused.contains("│uppercase | hex"), "{refused}");
    assert!(matches!(press(&mut app, KeyCode::Enter), Action::Give(0, _)));
    app.done(&order, Ok("the chain is now uppercase | hex".to_owned()));
    assert!(app.dialog.is_none());
    assert!(text(&app, 80, 24).contains("the chain is now uppercase | hex"));
    // Of all listeners without a chain of their own.
    press(&mut app, KeyCode::Home);
    press(&mut app, KeyCode::Char('c'));
    type_in(&mut app, "hex");
    let all = Order::Chain { listener: 0, spec: "hex".to_owned() };
    assert_eq!(press(&mut app, KeyCode::Enter), Action::Give(0, all));
}

#[test]
fn what_ends_something_is_asked_again() {
    let mut app = app();
    press(&mut app, KeyCode::Char('X'));
    let question = text(&app, 80, 24);
    assert!(question.contains("Close connection 4103 from 127.0.0.1:51234 at once"), "{question}");
    // Anything but yes is no.
    assert_eq!(press(&mut app, KeyCode::Char('q')), Action::None);
    assert!(app.dialog.is_none());
    press(&mut app, KeyCode::Char('x'));
    let order = Order::Close { connection: 4103, is_reset: false };
    assert_eq!(press(&mut app, KeyCode::Char('y')), Action::Give(0, order.clone()));
    app.done(&order, Err(Failure::new(Exit::Usage, "unknown or closed connection: 4103")));
    assert!(text(&app, 80, 24).contains("unknown or closed connection: 4103"));
    press(&mut app, KeyCode::Char('d'));
    assert_eq!(press(&mut app, KeyCode::Esc), Action::None);
    press(&mut app, KeyCode::Char('d'));
    let order = Order::Drain { within: Duration::from_secs(5) };
    assert_eq!(press(&mut app, KeyCode::Enter), Action::Give(0, order));
    // It waits, but not for ever.
    type_in(&mut app, "q");
    assert!(matches!(app.dialog, Some(Dialog::Prompt(_))));
    press(&mut app, KeyCode::Esc);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    press(&mut app, KeyCode::Char('?'));
    assert!(text(&app, 80, 24).contains("to the other list"));
    assert_eq!(app.key(control_c), Action::Interrupt);
}

#[test]
fn parts_have_their_share_of_the_lines() {
    // 16 lines are 13 for the parts.
    assert_eq!(heights(13, 3, 5), [4, 4, 5]);
    assert_eq!(heights(13, 0, 0), [3, 3, 7]);
    assert_eq!(heights(21, 4, 6), [6, 7, 8]);
    assert_eq!(heights(100, 1000, 1000), [33, 33, 34]);
    assert_eq!(heights(0, 1, 1), [3, 3, 0]);
}

#[test]
fn a_long_line_is_shown_around_the_cursor() {
    let shown = |text: &str, cursor, room| {
        let window = window(text, cursor, room);
        (window.text, window.column)
    };
    assert_eq!(shown("uppercase", 9, 20), ("uppercase".to_owned(), 9));
    assert_eq!(shown("0123456789", 10, 6), ("56789".to_owned(), 5));
    assert_eq!(shown("0123456789", 0, 6), ("01234".to_owned(), 0));
    assert_eq!(shown("0123456789", 7, 6), ("23456".to_owned(), 5));
    // Two columns each.
    assert_eq!(shown("漢字漢字", 12, 6), ("漢字".to_owned(), 4));
    assert_eq!(shown("", 0, 0), (String::new(), 0));
}

#[test]
fn texts_are_broken_between_words() {
    assert_eq!(wrapped("a bc def\n\nghi", 5), ["a bc", "def", "", "ghi"]);
    assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(wrapped("漢字", 1), ["漢", "字", ""]);
    assert_eq!(wrapped("  x y", 4), ["  x", "y"]);
}

#[test]
fn a_filter_leaves_the_rows_with_its_text() {
    let mut app = app();
    press(&mut app, KeyCode::Char('/'));
    type_in(&mut app, "UDP");
    // It holds while it is typed, and keys that are orders elsewhere are letters here.
    let typing = text(&app, 80, 24);
    assert!(typing.contains("/UDP  Enter keeps it, Esc clears it"), "{typing}");
    assert!(typing.contains("udp://127.0.0.1:8888") && typing.contains("Listeners, 2 left out"), "{typing}");
    assert!(!typing.contains("tcp://127.0.0.1:8888 "), "{typing}");
    // No connection is of this listener, no reason has the text.
    assert!(typing.contains("Slow connections, 4 left out") && !typing.contains("51234"), "{typing}");
    assert!(typing.contains("dropped rate") && typing.contains("closed peer_closed"), "{typing}");
    press(&mut app, KeyCode::Enter);
    assert!(app.dialog.is_none());
    let kept = text(&app, 80, 24);
    assert!(kept.contains("only with UDP, Esc shows all  q quit"), "{kept}");
    // The totals are the server's.
    assert!(kept.contains("all                            193k"), "{kept}");
    assert!(text(&app, 60, 16).contains("only with UDP"));
    // What is selected is among what is shown, and samples that come leave it so.
    press(&mut app, KeyCode::Down);
    assert_eq!(app.view().unwrap().listener().unwrap().id, 2);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.view().unwrap().listener_place(), 1);
    app.sampled(0, Ok(sample(Instant::now(), 3_700)));
    assert_eq!(app.view().unwrap().listener().unwrap().id, 2);
    press(&mut app, KeyCode::Char('x'));
    assert!(app.dialog.is_none(), "no connection is shown");
    press(&mut app, KeyCode::Esc);
    let all = text(&app, 80, 24);
    assert!(
        all.contains("tcp://127.0.0.1:8888 ") && all.contains("51234") && !all.contains("left out"),
        "{all}"
    );
    assert_eq!(app.view().unwrap().listener().unwrap().id, 2);
}

#[test]
fn a_filter_finds_names_reasons_and_peers() {
    let mut app = app();
    let shown = |app: &App| {
        let figures = app.view().unwrap().figures.clone().unwrap();
        let listeners: Vec<_> = figures.listeners.iter().map(|listener| listener.id).collect();
        let connections: Vec<_> = figures.connections.iter().map(|connection| connection.id).collect();
        (listeners, connections)
    };
    let table: [(&str, &[u64], &[u64]); 6] = [
        ("Local", &[3], &[]),
        // A reason that has come up there; another one that has not.
        ("rate", &[2], &[]),
        ("drained", &[], &[]),
        ("tcp:", &[1], &[4103, 4140, 17, 9]),
        (":40012", &[], &[17]),
        ("", &[1, 2, 3], &[4103, 4140, 17, 9]),
    ];
    for (filter, listeners, connections) in table {
        press(&mut app, KeyCode::Char('/'));
        app.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        type_in(&mut app, filter);
        press(&mut app, KeyCode::Enter);
        assert_eq!(shown(&app), (listeners.to_vec(), connections.to_vec()), "{filter}");
    }
    // Of the reasons, only those with it.
    press(&mut app, KeyCode::Char('/'));
    type_in(&mut app, "rat");
    let reasons = text(&app, 80, 24);
    assert!(reasons.contains("dropped rate") && !reasons.contains("peer_closed"), "{reasons}");
    // It is edited as any line; Esc clears it.
    press(&mut app, KeyCode::Backspace);
    assert!(text(&app, 80, 24).contains("/ra  Enter"));
    press(&mut app, KeyCode::Esc);
    assert!(app.dialog.is_none() && app.filter.text().is_empty());
    // The chain that all listeners have is not that of the only one shown.
    press(&mut app, KeyCode::Char('/'));
    type_in(&mut app, "udp");
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Home);
    press(&mut app, KeyCode::Char('c'));
    type_in(&mut app, "hex");
    let all = Order::Chain { listener: 0, spec: "hex".to_owned() };
    assert_eq!(press(&mut app, KeyCode::Enter), Action::Give(0, all));
}

//! A line that is typed: a chain, a time, or what is looked for.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use resay::options::parse_duration;
use resay::transform::spec::ChainSpec;

use super::order::Order;
use crate::ctl::client::sendable;
use crate::ctl::text::printable;
use crate::exit::Failure;

/// A longer line would be refused by the server.
const BYTES_MAX: usize = 32 * 1024;

/// What has been typed so far.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) text: String,
    /// A place between two characters, in bytes.
    pub(super) cursor: usize,
}

/// A line that is an order once it is complete.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) line: Typed,
    pub(super) fault: Option<Fault>,
    /// The server has it.
    pub(super) is_asking: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The number of a listener, or 0, and what it is called.
    Chain {
        listener: u64,
        label: String,
    },
    Drain,
}

/// What is wrong with the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) text: String,
    /// The byte where, if that is known.
    pub(super) at: Option<usize>,
}

impl Typed {
    /// The cursor is behind the text.
    pub(super) fn new(text: &str) -> Typed {
        Typed { text: text.to_owned(), cursor: text.len() }
    }

    /// Edits the line; whether its text may have changed.
    pub(super) fn edit(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let is_chord = is_control || key.modifiers.contains(KeyModifiers::ALT);
        let (before, after) = self.text.split_at(self.cursor);
        let previous = before.chars().next_back().map_or(0, char::len_utf8);
        let next = after.chars().next().map_or(0, char::len_utf8);
        match key.code {
            KeyCode::Left => self.cursor -= previous,
            KeyCode::Right => self.cursor += next,
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Char('a') if is_control => self.cursor = 0,
            KeyCode::Char('e') if is_control => self.cursor = self.text.len(),
            KeyCode::Char('u') if is_control => {
                self.text.clear();
                self.cursor = 0;
                return true;
            }
            KeyCode::Backspace => {
                self.cursor -= previous;
                self.text.drain(self.cursor..self.cursor + previous);
                return true;
            }
            KeyCode::Delete => {
                self.text.drain(self.cursor..self.cursor + next);
                return true;
            }
            KeyCode::Char(letter) if !is_chord && !letter.is_control() => return self.insert(letter),
            _ => {}
        }
        false
    }

    fn insert(&mut self, letter: char) -> bool {
        let has_room = self.text.len() < BYTES_MAX;
        if has_room {
            self.text.insert(self.cursor, letter);
            self.cursor += letter.len_utf8();
        }
        has_room
    }
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: &str) -> Prompt {
        Prompt { purpose, line: Typed::new(text), fault: None, is_asking: false }
    }

    /// Edits the line.
    pub(super) fn edit(&mut self, key: KeyEvent) {
        if self.line.edit(key) {
            self.fault = None;
        }
    }

    /// What the line asks for; `None`: it is wrong, and says where.
    pub(super) fn order(&mut self) -> Option<Order> {
        let order = match &self.purpose {
            Purpose::Chain { listener, .. } => match ChainSpec::parse(&self.line.text) {
                Ok(_) => sendable(&self.line.text)
                    .map(|spec| Order::Chain { listener: *listener, spec })
                    .map_err(fault),
                Err(error) => Err(Fault { text: printable(&error.message), at: Some(error.at) }),
            },
            Purpose::Drain => match parse_duration(self.line.text.trim()) {
                Ok(within) => Ok(Order::Drain { within }),
                Err(error) => Err(Fault { text: printable(&error.to_string()), at: None }),
            },
        };
        match order {
            Ok(order) => {
                self.is_asking = true;
                Some(order)
            }
            Err(fault) => {
                self.refuse(fault);
                None
            }
        }
    }

    /// The server does not want it.
    pub(super) fn refused(&mut self, failure: Failure) {
        self.refuse(fault(failure));
    }

    fn refuse(&mut self, fault: Fault) {
        self.is_asking = false;
        // There it is to be mended.
        if let Some(at) = fault.at {
            self.line.cursor = at.min(self.line.text.len());
        }
        self.fault = Some(fault);
    }
}

fn fault(failure: Failure) -> Fault {
    let text = failure.text().split('\n').map(printable).collect::<Vec<_>>().join("\n");
    Fault { text, at: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exit::Exit;

    fn chain(text: &str) -> Prompt {
        Prompt::new(Purpose::Chain { listener: 3, label: String::new() }, text)
    }

    #[test]
    fn a_line_is_edited_between_characters() {
        let mut prompt = chain("é|");
        let keys = [
            (KeyCode::Left, "é|", 2),
            (KeyCode::Char('ü'), "éü|", 4),
            (KeyCode::Left, "éü|", 2),
            (KeyCode::Left, "éü|", 0),
            (KeyCode::Left, "éü|", 0),
            (KeyCode::Backspace, "éü|", 0),
            (KeyCode::Delete, "ü|", 0),
            (KeyCode::End, "ü|", 3),
            (KeyCode::Delete, "ü|", 3),
            (KeyCode::Right, "ü|", 3),
            (KeyCode::Backspace, "ü", 2),
            (KeyCode::Home, "ü", 0),
            (KeyCode::Char('\x1b'), "ü", 0),
            (KeyCode::F(3), "ü", 0),
        ];
        for (code, text, cursor) in keys {
            prompt.edit(KeyEvent::from(code));
            assert_eq!((prompt.line.text.as_str(), prompt.line.cursor), (text, cursor), "{code:?}");
        }
        prompt.edit(KeyEvent::new(KeyCode::Char('e'), KeyModifiers::CONTROL));
        prompt.edit(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::CONTROL));
        prompt.edit(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT));
        prompt.edit(KeyEvent::from(KeyCode::Home));
        prompt.edit(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!((prompt.line.text.as_str(), prompt.line.cursor), ("", 0));
    }

    #[test]
    fn a_wrong_chain_is_shown_where_it_is_wrong() {
        let mut prompt = chain("uppercase | Upper");
        assert_eq!(prompt.order(), None);
        let fault = prompt.fault.clone().unwrap();
        assert_eq!((fault.at, prompt.line.cursor), (Some(12), 12), "{fault:?}");
        // Whatever is typed next ends the complaint.
        prompt.edit(KeyEvent::from(KeyCode::Delete));
        prompt.edit(KeyEvent::from(KeyCode::Char('u')));
        assert_eq!(prompt.fault, None);
        let spec = "uppercase | upper".to_owned();
        assert_eq!(prompt.order(), Some(Order::Chain { listener: 3, spec }));
        assert!(prompt.is_asking);
        prompt.refused(Failure::new(Exit::Plugin, "unknown transform\n  \x1b[2J"));
        let wanted = Fault { text: "unknown transform\n  \\u001b[2J".to_owned(), at: None };
        assert_eq!((prompt.fault, prompt.is_asking), (Some(wanted), false));
    }

    #[test]
    fn no_line_is_the_plain_echo() {
        assert_eq!(chain(" ").order(), Some(Order::Chain { listener: 3, spec: "identity".to_owned() }));
    }

    #[test]
    fn a_time_is_asked_for_a_drain() {
        let mut prompt = Prompt::new(Purpose::Drain, "soon");
        assert_eq!(prompt.order(), None);
        assert!(prompt.fault.is_some());
        let mut prompt = Prompt::new(Purpose::Drain, "5s");
        assert_eq!(prompt.order(), Some(Order::Drain { within: Duration::from_secs(5) }));
    }
}

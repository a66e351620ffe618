//! What a host asks workers and waits for. A worker that no thread has at the moment is asked by the thread that waits.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use super::connection_info::ConnectionInfo;
use crate::channel::Sender;
use crate::driver::Token;
use crate::lock::lock;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    /// Enter your connections into the directory.
    Enter,
    /// What is this connection now?
    Describe { token: Token, id: u64 },
    /// Stop listening; connections go on.
    CloseListener { id: u64 },
    /// Give a copy of your socket, if you have one.
    CopySocket { id: u64 },
    /// Let nobody connect any more, and keep the address.
    Refuse { id: u64 },
    /// Take peers again.
    StopRefusing { id: u64 },
    /// Close a socket that refuses; another one follows.
    Replace { id: u64 },
    /// Reset all connections of a listener.
    Reset { id: u64 },
    /// Do all that was asked before.
    Nothing,
    /// Make a whole turn.
    WholeTurn,
}

impl Question {
    /// Whether it is to be done also when nobody waits for it any more: what was begun elsewhere is brought to its end.
    fn is_final(self) -> bool {
        match self {
            Question::CloseListener { .. }
            | Question::Refuse { .. }
            | Question::StopRefusing { .. }
            | Question::Replace { .. } => true,
            Question::Enter
            | Question::Describe { .. }
            | Question::CopySocket { .. }
            | Question::Reset { .. }
            | Question::Nothing
            | Question::WholeTurn => false,
        }
    }
}

/// What a worker says. That it has done as it was asked, it says by dropping the sender.
#[derive(Debug)]
pub(crate) enum Answer {
    Connection(Box<ConnectionInfo>),
    /// So many connections.
    Count(usize),
    Socket(OwnedFd),
    Failed(io::Error),
}

/// A question that is answered once, by whoever comes first, or not at all once it was revoked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(super) question: Question,
    to: Mutex<Option<Sender<Answer>>>,
}

impl Ask {
    pub(crate) fn new(question: Question, to: Sender<Answer>) -> Ask {
        Ask { question, to: Mutex::new(Some(to)) }
    }

    /// Where the answer is to go, for whoever takes the question.
    pub(super) fn take(&self) -> Option<Sender<Answer>> {
        lock(&self.to).take()
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn give_up(&self) {
        if !self.question.is_final() {
            self.revoke();
        }
    }

    /// It is not to be done.
    pub(crate) fn revoke(&self) {
        drop(self.take());
    }

    /// Whether somebody has taken it.
    pub(crate) fn is_taken(&self) -> bool {
        lock(&self.to).is_none()
    }
}

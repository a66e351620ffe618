//! Answers that come later than their messages, and chains that are tried without a socket.

use super::state::Engine;
use crate::buffer;
use crate::dry_run::DryRun;
use crate::error::{Error, Result};
use crate::later::{LateAnswer, LateVerdict, Unclaimed};
use crate::lock::lock;
use crate::peer::SocketKind;
use crate::transform::library::Verdict;
use crate::worker::Command;

impl Engine {
    /// Answers a message whose function returned [`Verdict::Later`], with the number that
    /// [`Output::later`](crate::Output::later) gave it: once, from any thread, also inside a function. `data` is what the
    /// function would have written. The answer passes through the stages behind the function, and leaves behind those of
    /// earlier messages.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use resay::{Client, Engine, Message, Output, Transform, Verdict};
    ///
    /// let (requests, waiting) = mpsc::channel();
    /// let ask = Transform::from_fn("ask", move |message: &Message<'_>, out: &mut Output<'_>| match out.later() {
    ///     Some(number) if requests.send((number, message.to_vec())).is_ok() => Verdict::Later,
    ///     _ => Verdict::Drop,
    /// })?;
    /// let engine =
    ///     Engine::builder().register(ask).listen("tcp://127.0.0.1:0?frame=lines")?.chain("ask")?.start()?;
    /// let client = Client::open(&engine.urls()[0], None)?;
    /// client.send(b"one\ntwo\n", None)?;
    /// let [first, second] = [waiting.recv()?, waiting.recv()?];
    /// engine.answer(second.0, Verdict::Replace, b"second")?; // waits for the first
    /// engine.answer(first.0, Verdict::Replace, b"first")?;
    /// assert!(engine.answer(first.0, Verdict::Replace, b"twice").is_err());
    /// let (mut answer, mut have) = ([0; 32], 0);
    /// while have < 13 {
    ///     have += client.recv(&mut answer[have..], None)?;
    /// }
    /// assert_eq!(&answer[..have], b"first\nsecond\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Fails with [`Error::Handle`] where no message waits for that answer, or not any more: it was answered, its connection
    /// is closed, or the engine has ended; with [`Error::Full`] where the answer is longer than an answer may be, or there is
    /// no memory for it, or so many bytes of answers of that connection wait for earlier ones that there is no room (the
    /// number remains valid: answer earlier messages first); and with [`Error::State`] for [`Verdict::Pass`] and
    /// [`Verdict::Later`].
    pub fn answer(&self, number: u64, verdict: Verdict, data: &[u8]) -> Result<()> {
        let verdict = match verdict {
            Verdict::Replace => LateVerdict::Answer,
            Verdict::Drop => LateVerdict::Drop,
            Verdict::Close => LateVerdict::Close,
            Verdict::Reset => LateVerdict::Reset,
            Verdict::Fail(code) => LateVerdict::Fail(code),
            Verdict::Pass | Verdict::Later => {
                return Err(Error::State(
                    "an answer that comes later has bytes of its own: replace the message",
                ));
            }
        };
        let has_bytes = matches!(verdict, LateVerdict::Answer | LateVerdict::Close);
        let data = if has_bytes { data } else { &[] };
        const UNKNOWN: Error = Error::Handle("answer");
        let shared = &self.core.get().ok_or(UNKNOWN)?.shared;
        // Before the ticket is taken, which stays valid if there is no memory.
        let bytes = buffer::try_copy(data).ok_or(Error::Full("there is no memory for the answer"))?;
        let owner = shared.tickets.claim(number, data.len()).map_err(|unclaimed| match unclaimed {
            Unclaimed::Unknown => UNKNOWN,
            Unclaimed::TooLong => Error::Full("the answer is over the limit"),
            Unclaimed::Full => Error::Full("too many answers wait for earlier ones of their connection"),
        })?;
        let answer = LateAnswer { ticket: number, verdict, bytes };
        let mailbox = shared.mailboxes.get(owner.worker).ok_or(UNKNOWN)?;
        mailbox.push(Command::LateAnswer { socket: owner.socket, answer }).map_err(|_| UNKNOWN)
    }

    /// A chain run without sockets, with the transforms that the engine would find: see [`DryRun::new`].
    pub fn dry_run(&self, chain: &str, kind: SocketKind, is_framed: bool) -> Result<DryRun> {
        let callees = DryRun::look_up(&mut lock(&self.registry), chain)?;
        DryRun::of(callees, kind, is_framed).map_err(|error| error.in_text(chain))
    }
}

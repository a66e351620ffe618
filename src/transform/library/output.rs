//! What a function of the host answers.

use resay_plugin::abi;

use super::conversation::Conversation;
use super::status::Fault;
use crate::later::{Ticket, TicketIssuer};

/// What a function did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The message is the answer.
    Pass,
    /// What was written is the answer.
    Replace,
    /// There is no answer.
    Drop,
    /// What was written is the last answer: the connection is closed in good order.
    Close,
    /// The connection is broken off at once.
    Reset,
    /// The answer comes later, by `Engine::answer` with the number that [`Output::later`] gave. What was written is
    /// forgotten.
    Later,
    /// It cannot do it; the code of a plugin's status.
    Fail(i32),
}

/// What a function is called with beside the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallContext<'a> {
    pub(crate) conversation: Conversation<'a>,
    /// `None`: no answer may come later here.
    pub(crate) issuer: Option<&'a TicketIssuer<'a>>,
}

/// What a function answers with: memory of the engine's, which grows as it is written to.
#[derive(Debug)]
pub struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    /// How much is written; what is behind it is reserved.
    len: usize,
    len_max: usize,
    fault: Option<Fault>,
    delay_us: u64,
    issuer: Option<&'a TicketIssuer<'a>>,
    ticket: Option<Ticket>,
}

/// What is left of an output when the function has returned.
pub(super) struct Written {
    pub(super) fault: Option<Fault>,
    pub(super) delay_us: u64,
    pub(super) ticket: Option<Ticket>,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        bytes: &'a mut Vec<u8>,
        len_max: usize,
        issuer: Option<&'a TicketIssuer<'a>>,
    ) -> Output<'a> {
        bytes.clear();
        Output { bytes, len: 0, len_max, fault: None, delay_us: 0, issuer, ticket: None }
    }

    /// Leaves what was written in the buffer, and nothing else.
    #[inline]
    pub(super) fn finish(self) -> Written {
        let Output { bytes, len, fault, delay_us, ticket, .. } = self;
        bytes.truncate(len);
        Written { fault, delay_us, ticket }
    }

    /// Appends bytes. False: the answer would be over the limit, or there is no memory for it; whatever the function says
    /// then, the message fails.
    pub fn write(&mut self, data: &[u8]) -> bool {
        if !self.has_room(data.len()) {
            return false;
        }
        self.bytes.truncate(self.len);
        if !self.has_memory(data.len()) {
            return false;
        }
        self.bytes.extend_from_slice(data);
        self.len = self.bytes.len();
        true
    }

    /// Room for `count` more bytes, zeroed or left from before, to be written to until the next call. `None`: as for
    /// [`write`](Output::write).
    pub fn reserve(&mut self, count: usize) -> Option<&mut [u8]> {
        if !self.has_room(count) || !self.has_memory((self.len + count).saturating_sub(self.bytes.len())) {
            return None;
        }
        self.bytes.resize(self.len + count, 0);
        self.bytes.get_mut(self.len..)
    }

    /// Appends the first `count` bytes of what was reserved last. False: less was reserved; whatever the function says
    /// then, the message fails.
    pub fn commit(&mut self, count: usize) -> bool {
        if count > self.bytes.len() - self.len {
            self.fault = Some(Fault::Broken("more was committed than reserved"));
            return false;
        }
        self.len += count;
        self.bytes.truncate(self.len);
        true
    }

    /// Holds the answer back, for so many microseconds from now.
    pub fn delay(&mut self, microseconds: u64) {
        self.delay_us = microseconds;
    }

    /// A number with which `Engine::answer` answers this message, once, from any thread; then return
    /// [`Verdict::Later`]. `None`: not possible here, that is, for a greeting, in a dry run, in a chain with a transform
    /// that may block, on a raw stream with a plugin in the chain that makes output of its own, or while too many
    /// datagrams wait. The same number again where it was asked for before.
    pub fn later(&mut self) -> Option<u64> {
        if self.ticket.is_none() {
            self.ticket = Some(self.issuer?.issue(self.len_max));
        }
        self.ticket.as_ref().map(Ticket::number)
    }

    /// Whether an address lies in the memory that is written to, which may move with the next call.
    pub fn holds(&self, address: *const u8) -> bool {
        let begin = self.bytes.as_ptr().addr();
        (begin..begin + self.bytes.capacity()).contains(&address.addr())
    }

    /// How many more bytes may be written.
    pub fn room(&self) -> usize {
        self.len_max - self.len
    }

    /// How much is written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure of memory for so many bytes behind those that are there.
    fn has_memory(&mut self, more: usize) -> bool {
        let has_memory = self.bytes.try_reserve(more).is_ok();
        if !has_memory {
            self.fault = Some(Fault::Status(abi::RESAY_E_NOMEM));
        }
        has_memory
    }

    fn has_room(&mut self, count: usize) -> bool {
        let fits = count <= self.len_max - self.len;
        if !fits {
            self.fault = Some(Fault::TooLong);
        }
        fits
    }
}

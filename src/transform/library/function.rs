//! A function of the host's as a transform: called straight, without a table between.
//!
//! It may leave a message as it is, which costs no copy, or answer something of any length; a table's `map` cannot do
//! the one and its `process` not the other.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use resay_plugin::abi;

use super::status::{Fault, Status};
use crate::lock::lock;

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
    /// It cannot do it; the code of a plugin's status.
    Fail(i32),
}

/// What a function answers with: memory of the engine's, which grows as it is written to.
#[derive(Debug)]
pub struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    /// How much is written; what is behind it is reserved.
    len: usize,
    len_max: usize,
    fault: Option<Fault>,
}

impl Output<'_> {
    fn new(bytes: &mut Vec<u8>, len_max: usize) -> Output<'_> {
        bytes.clear();
        Output { bytes, len: 0, len_max, fault: None }
    }

    /// Appends bytes. False: the answer would be over the limit, or there is no memory for it; whatever the function says then, the message fails.
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
        if !self.has_room(count) {
            return None;
        }
        if !self.has_memory((self.len + count).saturating_sub(self.bytes.len())) {
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

type Call = dyn Fn(&[u8], u32, &mut Output<'_>) -> Verdict + Send + Sync;

/// The function, and what it is called.
pub(crate) struct Function {
    call: Box<Call>,
}

impl Function {
    pub(super) fn new(
        call: impl Fn(&[u8], u32, &mut Output<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Function {
        Function { call: Box::new(call) }
    }

    /// Calls it; whether `out` holds the answer then, or the message itself is it.
    #[inline]
    pub(super) fn call(
        &self,
        message: &[u8],
        flags: u32,
        out: &mut Vec<u8>,
        out_max: usize,
    ) -> (Status, bool) {
        let mut output = Output::new(out, out_max);
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.call)(message, flags, &mut output)))
            .unwrap_or(Verdict::Fail(abi::RESAY_E_PANIC));
        let Output { bytes, len, fault, .. } = output;
        bytes.truncate(len);
        if let Some(fault) = fault {
            return (Status::Failed(fault), false);
        }
        match verdict {
            Verdict::Pass => (Status::Ok, false),
            Verdict::Replace => (Status::Ok, true),
            Verdict::Drop => (Status::Drop, false),
            Verdict::Close => (Status::Close, true),
            Verdict::Reset => (Status::Reset, false),
            Verdict::Fail(code) => (Status::Failed(Fault::Status(code)), false),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").finish_non_exhaustive()
    }
}

/// A name that stays for ever, once: names of transforms are told to whoever asks which one runs, even after a crash.
pub(super) fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = lock(&NAMES);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        call: impl Fn(&[u8], u32, &mut Output<'_>) -> Verdict + Send + Sync + 'static,
    ) -> (Status, bool, Vec<u8>) {
        let mut out = b"from before".to_vec();
        let (status, replaced) = Function::new(call).call(b"message", 0, &mut out, 16);
        (status, replaced, out)
    }

    #[test]
    fn what_is_written_reserved_and_committed_is_the_answer() {
        let (status, replaced, out) = run(|message, _, out| {
            assert!(out.is_empty());
            assert!(out.write(message));
            out.reserve(4).unwrap()[..2].copy_from_slice(b"ab");
            assert!(out.commit(2));
            assert!(out.reserve(3).is_some());
            assert!(out.write(b"c"));
            assert_eq!(out.len(), 10);
            Verdict::Replace
        });
        assert_eq!((status, replaced, out), (Status::Ok, true, b"messageabc".to_vec()));
    }

    #[test]
    fn what_breaks_the_rules_fails_whatever_is_said_then() {
        let (status, ..) = run(|_, _, out| {
            assert!(out.reserve(3).is_some());
            assert!(!out.commit(4));
            Verdict::Pass
        });
        assert!(matches!(status, Status::Failed(Fault::Broken(_))));
        let (status, ..) = run(|_, _, out| {
            assert!(!out.write(&[0; 17]));
            Verdict::Replace
        });
        assert_eq!(status, Status::Failed(Fault::TooLong));
        let (status, ..) = run(|_, _, out| {
            assert!(out.reserve(usize::MAX).is_none());
            Verdict::Replace
        });
        assert_eq!(status, Status::Failed(Fault::TooLong));
        let (status, ..) = run(|_, _, _| panic!("in a function of the host's"));
        assert_eq!(status, Status::Failed(Fault::Status(abi::RESAY_E_PANIC)));
    }

    #[test]
    fn names_are_kept_once() {
        assert_eq!(lasting("a-name").as_ptr(), lasting(&String::from("a-name")).as_ptr());
    }
}

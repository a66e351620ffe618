//! One call of [`Process`](crate::Process): the input, the output buffer, the flags.

use crate::abi;
use core::fmt;
use core::time::Duration;

/// One call of [`Process::process`](crate::Process::process).
///
/// It counts the bytes consumed and produced. It copies none of them: input and output are the host's memory.
pub struct Io<'a> {
    raw: &'a mut abi::resay_io,
    input: &'a [u8],
    out: &'a mut [u8],
}

impl<'a> Io<'a> {
    /// # Safety
    /// `raw` is what the ABI promises of process()'s argument, for 'a, and its out does not overlap its in.
    #[inline]
    pub(crate) unsafe fn new(raw: &'a mut abi::resay_io) -> Self {
        raw.input_used = 0;
        raw.output_len = 0;
        let input: &'a [u8] =
            // SAFETY: input_len bytes, borrowed for the call.
            if raw.input_len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(raw.input, raw.input_len) } };
        let out: &'a mut [u8] = if raw.output_cap == 0 {
            &mut []
        } else {
            // SAFETY: output_cap initialised bytes, ours for the call, apart from in.
            unsafe { core::slice::from_raw_parts_mut(raw.output, raw.output_cap) }
        };
        Self { raw, input, out }
    }

    /// The input that is not consumed yet. It stays readable while output is written.
    #[inline]
    pub fn input(&self) -> &'a [u8] {
        &self.input[self.raw.input_used..]
    }

    /// Counts `n` bytes of [`input`](Self::input) as consumed.
    ///
    /// # Panics
    /// If there is less input.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.input.len() - self.raw.input_used, "consumed more than there is");
        self.raw.input_used += n;
    }

    /// Consumes all input and returns it.
    #[inline]
    pub fn take(&mut self) -> &'a [u8] {
        let all = self.input();
        self.raw.input_used = self.input.len();
        all
    }

    /// The free bytes of the output buffer. If a bound is declared, they suffice for the whole input.
    #[inline]
    pub fn room(&self) -> usize {
        self.out.len() - self.raw.output_len
    }

    /// Whether `len` bytes do not fit. Then it also requests a sufficient buffer from the host ([`need`](Self::need));
    /// return [`Status::MoreOut`](crate::Status::MoreOut).
    #[inline]
    pub fn lacks_room(&mut self, len: usize) -> bool {
        let lacks = self.room() < len;
        if lacks {
            self.need(len);
        }
        lacks
    }

    /// Writes as much of `bytes` as fits, and returns the number of bytes written.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.spare()[..n].copy_from_slice(&bytes[..n]);
        self.raw.output_len += n;
        n
    }

    /// Writes all of `bytes` and returns true, or writes nothing if they do not fit.
    #[inline]
    pub fn write_all(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.room();
        if fits {
            self.write(bytes);
        }
        fits
    }

    /// The free part of the output buffer, to be written in place and then counted with [`produce`](Self::produce). Its
    /// content is unspecified.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.out[self.raw.output_len..]
    }

    /// Counts `n` bytes of [`spare`](Self::spare) as output.
    ///
    /// # Panics
    /// If there is less room.
    #[inline]
    pub fn produce(&mut self, n: usize) {
        assert!(n <= self.room(), "produced more than fits");
        self.raw.output_len += n;
    }

    /// With [`Status::MoreOut`](crate::Status::MoreOut): the least output buffer that the next call needs.
    #[inline]
    pub fn need(&mut self, room: usize) {
        self.raw.output_need = room;
    }

    /// Delays the output of this call. On a stream, later output waits behind it.
    #[inline]
    pub fn delay(&mut self, time: Duration) {
        self.raw.delay_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    }

    /// Sends the answer to a datagram so many more times. Hosts limit this, and older ones ignore it.
    #[inline]
    pub fn copies(&mut self, times: u32) {
        let known = core::mem::offset_of!(abi::resay_io, copies) + size_of::<u32>();
        if self.raw.struct_size as usize >= known {
            self.raw.copies = times;
        }
    }

    /// Whether this call begins a message. Always false on a raw stream, which has no messages.
    #[inline]
    pub fn begins_message(&self) -> bool {
        self.raw.flags & abi::RESAY_IO_BEGIN != 0
    }

    /// Whether the input ends a message.
    #[inline]
    pub fn ends_message(&self) -> bool {
        self.raw.flags & abi::RESAY_IO_END != 0
    }

    /// Whether the stream has ended.
    #[inline]
    pub fn ends_stream(&self) -> bool {
        self.raw.flags & abi::RESAY_IO_EOF != 0
    }

    /// Whether the call has only the end of a stream and no input. A transform that treats each read as a message has no
    /// message in this call.
    #[inline]
    pub fn is_only_end(&self) -> bool {
        self.ends_stream() && self.input().is_empty()
    }

    /// Whether no further input can complete this one: the transform must write everything that it still holds, and
    /// [`Status::MoreIn`](crate::Status::MoreIn) is not allowed.
    #[inline]
    pub fn is_last(&self) -> bool {
        self.raw.flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0
    }

    /// Whether the message is a datagram.
    #[inline]
    pub fn is_datagram(&self) -> bool {
        self.raw.flags & abi::RESAY_IO_DATAGRAM != 0
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("flags", &self.raw.flags)
            .field("unread", &self.input().len())
            .field("room", &self.room())
            .finish_non_exhaustive()
    }
}

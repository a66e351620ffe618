//! Sessions: the calls of map() and process(), and the rules for what comes back.

use super::buffers::{Arena, CANARY, CANARY_BYTES, CallBuffer, ERROR_BYTES, ErrorText, Writable};
use super::call::{How, Place, Reply, Room, expect_error};
use super::instance::{Instance, Refusal};
use crate::child::step;
use crate::guarded::{GuardedMemory, Region};
use crate::host::{POISON, calling, extra, is_poisoned, place_struct};
use crate::promise::Promise;
use crate::rng::Rng;
use crate::table::Table;
use crate::verdict::{Check, Violation};
use crate::words::{IO_FLAGS, bits_text, status_text};
use resay_plugin::abi;
use std::ffi::CStr;

/// The alignment of a session that names none.
const MALLOC_ALIGN: usize = 16;
pub(super) const HUGE_BYTES: usize = 1024 * 1024;
/// More calls than this that consume nothing are no progress.
const IDLE_CALLS_MAX: u32 = 1_000_000;

/// An open session, closed with this value.
#[derive(Debug)]
pub(crate) struct Session<'i, 'a> {
    pub(super) instance: &'i Instance<'a>,
    memory: Option<GuardedMemory>,
    pub(crate) place: *mut u8,
    /// Input that RESAY_MORE_IN left unconsumed.
    pub(crate) tail: Vec<u8>,
    kind: u32,
    /// Its status closed it: nothing more may be called.
    pub(crate) over: bool,
    pub(crate) greeting: Option<Reply>,
    is_open: bool,
}

// SAFETY: the memory is this value's own; calls of one session may come from threads in turn.
unsafe impl Send for Session<'_, '_> {}

/// What a proxy says of a peer.
const FACTS: &[u8] = b"version=2\0command=proxy\0unique_id=7\0\0";

impl<'a> Instance<'a> {
    /// Opens a session of that kind.
    pub(crate) fn session(&self, arena: &mut Arena, kind: u32) -> Check<Session<'_, 'a>> {
        self.session_with(arena, kind, true)?.map_err(|Refusal { status, text }| {
            let what = format!("session_open() returned {}: {text}", status_text(status));
            Violation::of(Promise::Creates, what)
        })
    }

    /// Opens a session whose peer has addresses, or none.
    pub(crate) fn session_with(
        &self,
        arena: &mut Arena,
        kind: u32,
        has_addresses: bool,
    ) -> Check<Result<Session<'_, 'a>, Refusal>> {
        let mut session = Session::unopened(self, kind);
        if let Some(open) = self.table.fields.session_open {
            step(format!("session_open() of {}", self.table.id));
            let address = |text: &'static CStr| if has_addresses { text.as_ptr() } else { std::ptr::null() };
            let peer = abi::resay_peer {
                struct_size: (size_of::<abi::resay_peer>() + extra(self.shape)) as u32,
                kind,
                id: arena.next_id(kind),
                local: address(c"tcp://127.0.0.1:8888"),
                peer: address(c"tcp://127.0.0.1:50000"),
                listener: address(c"tcp://127.0.0.1:8888"),
                via: address(c"tcp://127.0.0.1:40000"),
                facts: if has_addresses { FACTS.as_ptr().cast() } else { std::ptr::null() },
            };
            let peer = place_struct(&arena.structs, peer, extra(self.shape));
            let text = ErrorText::new(ERROR_BYTES);
            let _guard = self.guard();
            // SAFETY: a living instance, zeroed memory as the table asks for, the rest for the call.
            let status = calling(abi::RESAY_THREAD_WORKER, || unsafe {
                open(self.own, session.place.cast(), peer, text.raw)
            });
            let text = text.check("session_open()");
            if status != abi::RESAY_OK {
                session.forget();
                expect_error(status, "session_open()")?;
                return Ok(Err(Refusal { status, text: text? }));
            }
            text?;
            // Valid during the call only: whoever looks later sees this.
            // SAFETY: as many bytes of the memory as were written.
            unsafe { peer.cast::<u8>().write_bytes(POISON, size_of::<abi::resay_peer>()) };
        }
        if self.table.promises(abi::RESAY_CAP_GREETS)
            && self.table.fields.map.is_none()
            && kind != abi::RESAY_DATAGRAM
        {
            session.greet(arena)?;
        }
        Ok(Ok(session))
    }
}

impl<'i, 'a> Session<'i, 'a> {
    /// Memory as the table asks for, before session_open().
    pub(super) fn unopened(instance: &'i Instance<'a>, kind: u32) -> Session<'i, 'a> {
        let fields = &instance.table.fields;
        let bytes = fields.session_size as usize;
        let align = if fields.session_align == 0 { MALLOC_ALIGN } else { fields.session_align as usize };
        let memory = (bytes > 0).then(|| GuardedMemory::new(Region::Session, bytes + align));
        let place = memory.as_ref().map_or(std::ptr::null_mut(), |memory| {
            // As near to the end as the alignment lets it be; the rest is watched by a canary.
            let end = memory.end(bytes);
            end.wrapping_sub(end as usize % align)
        });
        let mut session = Session {
            instance,
            memory,
            place,
            tail: Vec::new(),
            kind,
            over: false,
            greeting: None,
            is_open: true,
        };
        session.watch_slack(true);
        session
    }

    /// session_open() refused: session_close() is not called.
    pub(super) fn forget(&mut self) {
        self.over = true;
        self.is_open = false;
    }

    /// Asks a transform with RESAY_CAP_GREETS for its greeting.
    pub(super) fn greet(&mut self, arena: &mut Arena) -> Check<()> {
        self.greeting = Some(self.ask(arena, &How::default(), b"", 0, true)?);
        Ok(())
    }

    /// One whole message, which is a datagram where the peer is.
    pub(crate) fn message(&mut self, arena: &mut Arena, how: &How, message: &[u8]) -> Check<Reply> {
        let datagram = if self.kind == abi::RESAY_DATAGRAM { abi::RESAY_IO_DATAGRAM } else { 0 };
        self.process_next(arena, how, message, abi::RESAY_IO_BEGIN | abi::RESAY_IO_END | datagram)
    }

    /// The bytes of one read of a raw stream.
    pub(crate) fn read(&mut self, arena: &mut Arena, how: &How, bytes: &[u8]) -> Check<Reply> {
        let mut input = std::mem::take(&mut self.tail);
        input.extend_from_slice(bytes);
        self.process_next(arena, how, &input, 0)
    }

    /// The end of a raw stream.
    pub(crate) fn end(&mut self, arena: &mut Arena, how: &How) -> Check<Reply> {
        let input = std::mem::take(&mut self.tail);
        self.process_next(arena, how, &input, abi::RESAY_IO_EOF)
    }

    fn process_next(&mut self, arena: &mut Arena, how: &How, input: &[u8], flags: u32) -> Check<Reply> {
        self.ask(arena, how, input, flags, false)
    }

    /// One message, or the greeting, which is for process() even where map() takes the messages.
    fn ask(
        &mut self,
        arena: &mut Arena,
        how: &How,
        input: &[u8],
        flags: u32,
        is_greeting: bool,
    ) -> Check<Reply> {
        if self.over {
            return Ok(Reply::default());
        }
        let fields = &self.instance.table.fields;
        let answer = if fields.map.is_some() && !is_greeting {
            if flags & abi::RESAY_IO_EOF != 0 {
                return Ok(Reply { output: Vec::new(), status: Some(abi::RESAY_OK) });
            }
            self.map(arena, how, input)
        } else {
            self.process(arena, how, input, flags)
        }
        .map_err(|violation| {
            violation
                .with("call", format!("{} bytes, flags {}, {how}", input.len(), bits_text(flags, IO_FLAGS)))
        });
        let answer = answer?;
        let goes_on = [abi::RESAY_OK, abi::RESAY_MORE_IN, abi::RESAY_DROP];
        self.over = !answer.status.is_some_and(|status| goes_on.contains(&status));
        self.check_slack()?;
        Ok(answer)
    }

    fn map(&mut self, arena: &mut Arena, how: &How, input: &[u8]) -> Check<Reply> {
        let Some(map) = self.instance.table.fields.map else { return Ok(Reply::default()) };
        let len = input.len();
        step(format!("map() of {len} bytes, {how}"));
        let data = CallBuffer::new(&arena.input, how.place, len);
        data.fill(input);
        arena.input.call(if how.read_only { Region::Observed } else { Region::Output });
        if how.read_only {
            arena.input.protect(true);
        }
        // NULL is allowed where there is nothing.
        let pointer = if len == 0 && how.place == Place::End { std::ptr::null_mut() } else { data.start };
        let status = {
            let _guard = self.instance.guard();
            // SAFETY: a living instance and session, memory of ours.
            calling(abi::RESAY_THREAD_WORKER, || unsafe {
                map(self.instance.own, self.place.cast(), pointer, len)
            })
        };
        if how.read_only {
            arena.input.protect(false);
        }
        arena.input.call(Region::Input);
        data.check("the data of map()")?;
        match status {
            abi::RESAY_MORE_OUT | abi::RESAY_MORE_IN => {
                let what = format!("map() returned {}, which is for process() only", status_text(status));
                Err(Violation::of(Promise::Statuses, what))
            }
            status => {
                let output = data.bytes().to_vec();
                answer(status, output, "map()")
            }
        }
    }

    fn process(&mut self, arena: &mut Arena, how: &How, input: &[u8], flags: u32) -> Check<Reply> {
        let table = self.instance.table;
        let Some(process) = table.fields.process else { return Ok(Reply::default()) };
        let len = input.len();
        step(format!("process() of {len} bytes, flags {}, {how}", bits_text(flags, IO_FLAGS)));
        arena.pattern ^= 0xff;
        let buffer = CallBuffer::new(&arena.input, how.place, len);
        buffer.fill(input);
        if !how.alias {
            arena.input.protect(true);
        }
        let _writable = Writable(&arena.input);
        let (mut used, mut need, mut idle, mut output) = (0, 0, 0, Vec::new());
        loop {
            let rest = len - used;
            let room = room(table, how.room, rest, output.len(), &mut arena.rng).max(need);
            if room > arena.output.len() - 2 * CANARY_BYTES {
                return Ok(Reply { output: Vec::new(), status: None });
            }
            let out = CallBuffer::new(&arena.output, how.place, room);
            // The content is unspecified, so it differs.
            out.clear(arena.pattern);
            let mut start = buffer.start.wrapping_add(used).cast_const();
            if how.alias {
                out.overwrite(&input[used..]);
                start = out.start;
            } else if rest == 0 && how.place == Place::End {
                start = std::ptr::null();
            }
            let begin = if used == 0 && output.is_empty() { 0 } else { abi::RESAY_IO_BEGIN };
            let io = abi::resay_io {
                struct_size: (size_of::<abi::resay_io>() + extra(self.instance.shape)) as u32,
                flags: flags & !begin,
                input: start,
                input_len: rest,
                input_used: 0,
                output: out.start,
                output_cap: room,
                output_len: 0,
                output_need: 0,
                delay_us: 0,
                copies: 0,
                zero: 0,
            };
            let io = place_struct(&arena.structs, io, extra(self.instance.shape));
            let status = {
                let _guard = self.instance.guard();
                // SAFETY: a living instance and session, memory of ours.
                calling(abi::RESAY_THREAD_WORKER, || unsafe {
                    process(self.instance.own, self.place.cast(), io)
                })
            };
            // SAFETY: still there, whatever was written to it: numbers and pointers take all values.
            let (input_used, output_len, output_need) =
                unsafe { ((*io).input_used, (*io).output_len, (*io).output_need) };
            if !is_poisoned(&arena.structs, extra(self.instance.shape)) {
                let what = "it wrote beyond the fields of resay_io that its ABI minor has";
                return Err(Violation::of(Promise::StructSize, what.to_owned()));
            }
            if output_len > room {
                let what = format!("output_len {output_len} where output_cap was {room}");
                return Err(Violation::of(Promise::OutputBounds, what));
            }
            if input_used > rest {
                return Err(Violation::of(
                    Promise::Consumed,
                    format!("input_used {input_used} where input_len was {rest}"),
                ));
            }
            out.check("the output buffer")?;
            buffer.check("the input")?;
            output.extend_from_slice(&out.bytes()[..output_len]);
            used += input_used;
            match status {
                abi::RESAY_OK if used != len => {
                    let what = format!(
                        "process() returned RESAY_OK with input_used {input_used} where input_len was {rest}"
                    );
                    return Err(Violation::of(Promise::Consumed, what));
                }
                abi::RESAY_MORE_IN if flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0 => {
                    let what = format!(
                        "process() returned RESAY_MORE_IN with flags {}, {rest} bytes of input",
                        bits_text(flags, IO_FLAGS)
                    );
                    return Err(Violation::of(Promise::Ends, what));
                }
                abi::RESAY_MORE_IN => self.tail = input[used..].to_vec(),
                abi::RESAY_MORE_OUT => {
                    idle = if input_used == 0 { idle + 1 } else { 0 };
                    if input_used == 0 && output_len == 0 && output_need <= room {
                        let what = format!(
                            "RESAY_MORE_OUT with input_used 0, output_len 0, output_need {output_need}, output_cap {room}"
                        );
                        return Err(Violation::of(Promise::Progress, what));
                    }
                    if idle > IDLE_CALLS_MAX {
                        let what = format!("{idle} calls in a row consumed nothing");
                        return Err(Violation::of(Promise::Progress, what));
                    }
                    need = output_need;
                    continue;
                }
                _ => {}
            }
            let whole = abi::RESAY_IO_BEGIN | abi::RESAY_IO_END;
            if flags & whole == whole
                && let Some(bound) = table.bound(len)
                && output.len() > bound
            {
                let what =
                    format!("{} bytes of output for {len} of input: the bound is {bound}", output.len());
                return Err(Violation::of(Promise::Bound, what));
            }
            return answer(status, output, "process()");
        }
    }

    /// The bytes between the session and the unmapped page.
    fn watch_slack(&mut self, write: bool) -> bool {
        let Some(memory) = &self.memory else { return true };
        let behind = self.place.wrapping_add(self.instance.table.fields.session_size as usize);
        let slack = memory.end(0) as usize - behind as usize;
        // SAFETY: between the session and the end of its memory.
        unsafe {
            if write {
                behind.write_bytes(CANARY, slack);
            }
            std::slice::from_raw_parts(behind, slack)
        }
        .iter()
        .all(|byte| *byte == CANARY)
    }

    fn check_slack(&mut self) -> Check<()> {
        if self.watch_slack(false) {
            return Ok(());
        }
        Err(Violation::of(Promise::SessionBounds, "it wrote beyond its session_size bytes".to_owned()))
    }
}

impl Drop for Session<'_, '_> {
    fn drop(&mut self) {
        let fields = &self.instance.table.fields;
        if let Some(close) = fields.session_close.filter(|_| self.is_open) {
            step(format!("session_close() of {}", self.instance.table.id));
            let _guard = self.instance.guard();
            // SAFETY: opened once, closed once.
            calling(abi::RESAY_THREAD_WORKER, || unsafe { close(self.instance.own, self.place.cast()) });
        }
    }
}

fn room(table: &Table, room: Room, rest: usize, produced: usize, rng: &mut Rng) -> usize {
    let bound = table.bound(rest);
    let least = bound.unwrap_or(1);
    match room {
        Room::Tight => least,
        Room::Exact(total) => least.max(total.saturating_sub(produced)),
        Room::Huge => least.max(HUGE_BYTES + 2 * rest),
        Room::Random => least + rng.below(2 * rest as u64 + 64) as usize,
    }
}

fn answer(status: abi::resay_status, mut output: Vec<u8>, call: &str) -> Check<Reply> {
    match status {
        abi::RESAY_OK | abi::RESAY_MORE_IN | abi::RESAY_CLOSE => {}
        abi::RESAY_DROP | abi::RESAY_RESET => output.clear(),
        abi::RESAY_E_PANIC => {
            return Err(Violation::of(Promise::NoPanic, format!("{call} returned RESAY_E_PANIC")));
        }
        status => {
            expect_error(status, call)?;
            output.clear();
        }
    }
    Ok(Reply { output, status: Some(status) })
}

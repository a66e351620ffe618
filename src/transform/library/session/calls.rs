//! Calls of a chain's instances, one message at a time: `map`, `process`, and functions of the host.

use std::mem::size_of;

use resay_plugin::abi::{self, resay_io};

use super::{Session, Stage};
use crate::transform::library::callee::Callee;
use crate::transform::library::function::Called;
use crate::transform::library::output::CallContext;
use crate::transform::library::status::{Fault, Status};

/// Where a chain of maps has stopped: behind a pointer, so that going on is answered in a register.
#[derive(Debug)]
pub(crate) struct MapStopped(pub(crate) Box<(usize, Status)>);

impl MapStopped {
    #[cold]
    fn at(stage: usize, status: Status) -> MapStopped {
        MapStopped(Box::new((stage, status)))
    }
}

/// What one call of `process` did. Nothing of it is believed before [`Session::process_once`] has checked it.
#[derive(Debug)]
pub(crate) struct Processed {
    pub(crate) status: Status,
    /// Bytes of the input that were taken, and of the output that were written.
    pub(crate) used: usize,
    pub(crate) written: usize,
    /// With `MoreOut`: how much room the next call wants.
    pub(crate) room_wanted: usize,
    /// For how long the output is to be held back.
    pub(crate) delay_us: u64,
    /// How many more times a datagram is to be sent.
    pub(crate) copies: u32,
}

impl Processed {
    fn failed(fault: Fault) -> Processed {
        Processed {
            status: Status::Failed(fault),
            used: 0,
            written: 0,
            room_wanted: 0,
            delay_us: 0,
            copies: 0,
        }
    }
}

impl Session {
    /// Calls `map` of a stage that has it, in place.
    pub(crate) fn map(&mut self, stage: usize, data: &mut [u8]) -> Status {
        let stage = &self.stages.list[stage];
        let guard = match stage.instance.guard_of_message() {
            Ok(guard) => guard,
            Err(fault) => return Status::Failed(fault),
        };
        let status = stage.instance.enter(|| self.call_map(stage, data));
        drop(guard);
        stage.instance.check_map(status)
    }

    /// Calls `map` of every stage in turn, for chains that have nothing else; the stage and its status where one says
    /// anything but OK. What is to be sent before the end (`Close`) still goes through those behind.
    #[inline]
    pub(crate) fn map_all(&mut self, data: &mut [u8]) -> std::result::Result<(), MapStopped> {
        for (index, stage) in self.stages.list.iter().enumerate() {
            if !stage.instance.is_unguarded() {
                return self.map_from(index, None, data);
            }
            let status = stage.instance.enter(|| self.call_map(stage, data));
            if status != abi::RESAY_OK {
                return self.map_from(index, Some(status), data);
            }
        }
        Ok(())
    }

    /// The same from one stage on, which has answered already where a status is given.
    #[inline(never)]
    fn map_from(
        &self,
        first: usize,
        mut answered: Option<i32>,
        data: &mut [u8],
    ) -> std::result::Result<(), MapStopped> {
        let mut stopped = None;
        for (index, stage) in self.stages.list.iter().enumerate().skip(first) {
            let status = match answered.take() {
                Some(status) => status,
                None => match self.map_guarded(stage, data) {
                    Ok(status) => status,
                    Err(fault) => return Err(MapStopped::at(index, Status::Failed(fault))),
                },
            };
            if status != abi::RESAY_OK {
                let is_end = status == abi::RESAY_CLOSE;
                let status = match stage.instance.check_map(status) {
                    // An earlier stage has closed: that holds, whatever becomes of the message.
                    Status::Drop if stopped.is_some() => Status::DropAndClose,
                    status => status,
                };
                stopped = Some(MapStopped::at(index, status));
                if !is_end {
                    break;
                }
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    fn map_guarded(&self, stage: &Stage, data: &mut [u8]) -> std::result::Result<i32, Fault> {
        let _guard = stage.instance.guard_of_message()?;
        Ok(stage.instance.enter(|| self.call_map(stage, data)))
    }

    #[inline]
    fn call_map(&self, stage: &Stage, data: &mut [u8]) -> i32 {
        match stage.map {
            // SAFETY: the stage's own session memory, and a writable slice for the call.
            Some(map) => unsafe { map(stage.instance.own, self.part(stage), data.as_mut_ptr(), data.len()) },
            None => abi::RESAY_E_UNSUPPORTED,
        }
    }

    /// Calls the function of a stage that is one.
    #[inline]
    pub(crate) fn call(
        &mut self,
        stage: usize,
        data: &[u8],
        flags: u32,
        out: &mut Vec<u8>,
        out_max: usize,
        context: &CallContext<'_>,
    ) -> Called {
        // A stage that has refused the conversation has no session to be called with.
        let is_open = stage < self.opened && (self.begun.is_none() || !self.has_refused(stage));
        let stage = &self.stages.list[stage];
        let instance = &*stage.instance;
        let Callee::Function(function) = &instance.callee else {
            return Called::failed(Fault::Status(abi::RESAY_E_UNSUPPORTED));
        };
        let _guard = match instance.guard_of_message() {
            Ok(guard) => guard,
            Err(fault) => return Called::failed(fault),
        };
        if !is_open && function.layout().is_some() {
            return Called::failed(Fault::Refused("there is no session".to_owned()));
        }
        let memory = self.part(stage);
        // SAFETY: its session stands there if it has sessions, and this call is the only one with `&mut self`.
        let called = instance.enter(|| unsafe { function.call(memory, data, flags, out, out_max, context) });
        if let Status::Failed(fault) = &called.status {
            instance.note(fault);
        }
        called
    }

    /// The most bytes that a stage says it makes of `len` bytes; `None`: it does not say.
    pub(crate) fn output_bound(&self, stage: usize, len: usize) -> Option<usize> {
        self.stages.instance(stage).output_bound(len)
    }

    /// Calls `process` of a stage once, with `input` and room for output: all of `room`, whose content is unspecified.
    /// What it did is checked: nothing beyond the input is used and nothing beyond the room written, OK means that all
    /// was used, MORE_OUT that there was progress, and MORE_IN that there may be more.
    pub(crate) fn process_once(
        &mut self,
        stage: usize,
        input: &[u8],
        room: &mut [u8],
        flags: u32,
    ) -> Processed {
        let stage = &self.stages.list[stage];
        let instance = &*stage.instance;
        let Some(process) = instance.fields().and_then(|fields| fields.process) else {
            return Processed::failed(Fault::Status(abi::RESAY_E_UNSUPPORTED));
        };
        let _guard = match instance.guard_of_message() {
            Ok(guard) => guard,
            Err(fault) => return Processed::failed(fault),
        };
        let output_cap = room.len();
        let mut io = resay_io {
            struct_size: size_of::<resay_io>() as u32,
            flags,
            input: input.as_ptr(),
            input_len: input.len(),
            input_used: 0,
            output: room.as_mut_ptr(),
            output_cap,
            output_len: 0,
            output_need: 0,
            delay_us: 0,
            copies: 0,
            zero: 0,
        };
        // SAFETY: the input is readable and the output writable for the lengths given; the session's part is this
        // stage's.
        let code = instance.enter(|| unsafe { process(instance.own, self.part(stage), &mut io) });
        let broken = |what| Processed::failed(Fault::Broken(what));
        let status = match instance.check(code) {
            failed @ Status::Failed(_) => failed,
            _ if io.output_len > output_cap => return broken("process wrote more than output_cap"),
            _ if io.input_used > input.len() => return broken("process used more than input_len"),
            Status::Ok if io.input_used < input.len() => return broken("OK with input left"),
            Status::MoreOut if io.input_used == 0 && io.output_len == 0 && io.output_need <= output_cap => {
                return broken("MORE_OUT without progress");
            }
            Status::MoreIn if flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0 => {
                return broken("MORE_IN at the end of a message or stream");
            }
            status => status,
        };
        let is_believed = !matches!(status, Status::Failed(_));
        Processed {
            status,
            used: if is_believed { io.input_used } else { 0 },
            written: if is_believed { io.output_len } else { 0 },
            room_wanted: io.output_need,
            delay_us: io.delay_us,
            copies: io.copies,
        }
    }
}

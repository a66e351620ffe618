//! Listeners: an accept that goes on by itself.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use io_uring::cqueue;

use super::slots::{Event, PAUSED};
use super::{Arrived, Completion, Token, Uring};
use crate::peer::Peer;
use crate::sys;

impl Uring {
    pub(super) fn take_accepted(&mut self, token: Token, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let socket = self.accepted_by(arrived);
        let slot = self.slot_mut(token)?;
        if !cqueue::more(arrived.flags) {
            slot.end_receive();
        }
        match socket {
            Some(socket) => {
                // It was asked for no name: there is one place for all of them. A connection that was reset meanwhile
                // has none any more; it is reported like all others, and that it is broken will be.
                let peer = sys::peer(socket.as_fd()).unwrap_or(Peer::Unnamed);
                let accepted =
                    if matches!(peer, Peer::Ip(_)) { Ok(socket) } else { sys::without_descriptors(socket) };
                match accepted {
                    Ok(socket) => self.report_or_keep(token, Event::Accepted { socket, peer }),
                    Err(error) => {
                        let is_reported = !slot.flags.has(PAUSED);
                        self.receive_on(token);
                        is_reported.then_some(Completion::AcceptFailed { token, error })
                    }
                }
            }
            None => {
                let is_over = matches!(-arrived.result, libc::ECANCELED | libc::EINTR | libc::EAGAIN);
                // What fails while it rests will fail again when it goes on, or not.
                let is_reported = !is_over && !slot.flags.has(PAUSED);
                self.receive_on(token);
                let error = io::Error::from_raw_os_error(-arrived.result);
                is_reported.then_some(Completion::AcceptFailed { token, error })
            }
        }
    }

    /// The connection that a completion brought.
    pub(super) fn accepted_by(&mut self, arrived: Arrived) -> Option<OwnedFd> {
        if arrived.result < 0 {
            return None;
        }
        self.descriptors.remove(arrived.result);
        // SAFETY: a descriptor that the kernel has just made for this completion, which is looked at once.
        Some(unsafe { OwnedFd::from_raw_fd(arrived.result) })
    }
}

//! Unsafe boundary: the few system calls that socket2 does not give in the form that the engine needs.
//!
//! Everything here is a thin, safe function over one call of the manual's section 2, takes descriptors
//! as [`BorrowedFd`], never blocks (`MSG_DONTWAIT`), and never raises SIGPIPE (`MSG_NOSIGNAL`; `write`
//! and `splice` would). No control buffer is ever passed when unix sockets are read, so descriptors that a peer
//! sends along (`SCM_RIGHTS`) are never received; where the kernel can, none can be sent.

mod call;
mod datagram;
mod descriptors;
pub(crate) mod epoll;
#[cfg(test)]
pub(crate) mod faults;
mod files;
mod memory;
mod names;
mod options;
mod process;
mod refusing;
mod rights;
mod settings;
mod sockets;
mod threads;
mod timer;
mod transfers;
mod unix_queues;
mod waiting;

#[cfg(test)]
pub(crate) use call::syscall;
pub(crate) use datagram::{
    Batch, CONTROL_BYTES, ControlInfo, LocalAddr, NAME_BYTES, Received, Reply, ReplyTo, plain_port,
    read_control, receive_coalesced, run,
};
pub(crate) use descriptors::{Descriptors, close_copy};
pub(crate) use files::{
    open_directory, open_entry, open_to_lock, path_of, rename, stat_entry, unlink, without_umask,
};
pub(crate) use memory::{zeroed, zeroed_words};
pub(crate) use names::{Sockaddr, interface_index, local, peer, peer_of_sockaddr, read_sender, sockaddr_of};
pub(crate) use options::{
    SendBuffer, get_int, keep_urgent_inline, peer_credentials, send_buffer, tell_empty_records,
};
pub(crate) use process::{effective_user, monotonic_micros, monotonic_nanos};
pub(crate) use refusing::{Holder, refuse, stop_refusing};
pub(crate) use rights::{
    SO_PASSRIGHTS, keep_queued, refuse_descriptors, refuses_descriptors, without_descriptors,
};
pub(crate) use settings::{Handover, OnAccept, Setting};
pub(crate) use sockets::{accept, adopt, adopt_passed, claim_passed, disconnect, is_group, type_of};
pub(crate) use threads::{CPU_MAX, Thread, ThreadHooks, ThreadSettings, lose, start_helper, with_loss};
pub(crate) use timer::Timer;
pub(crate) use transfers::{Record, recv, recv_datagram, recv_record, recv_unix, send};
pub(crate) use unix_queues::unix_queues;
pub(crate) use waiting::{Presence, clear, event_fd, presence, signal, wait_readable};

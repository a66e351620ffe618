//! What datagrams and records need beside buffers.

use super::recvmsg::MsghdrTemplate;
use super::reply_in_flight::{ReplyInFlight, SendMsg};
use super::slots::Role;
use crate::limits::RING_MESSAGE_BUFFERS_MAX;
use crate::peer::Peer;
use crate::sys::{self, Reply};

/// Headers that are kept for reuse after a burst.
const TRIMMED_HEADERS: usize = 32;

/// A datagram socket.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub(super) template: MsghdrTemplate,
    pub(super) message_bytes_max: usize,
    /// The socket reports something of each.
    pub(super) reports: bool,
    /// The kernel has refused to cut a send into datagrams.
    pub(super) refuses_segments: bool,
}

/// What datagrams need beside buffers.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) sockets: Vec<Option<DatagramSocket>>,
    /// The longest records of seqpacket connections; many have the same.
    pub(super) record_bytes: Vec<usize>,
    /// What they all have in front of them.
    pub(super) record_template: MsghdrTemplate,
    /// Memory for the name of a datagram's sender.
    pub(super) sender: Peer,
    /// Answers to what is in the received buffer; all in slot 0, as [`sys::run`] knows them.
    pub(super) replies: Vec<(u16, Reply)>,
    pub(super) in_flight: Vec<Option<ReplyInFlight>>,
    pub(super) free: Vec<u32>,
    /// Of each buffer, how many answers are on their way that need it.
    pub(super) users: Vec<u16>,
    /// Those that are not used.
    pub(super) headers: Vec<SendMsg>,
}

impl Messages {
    pub(super) fn new() -> Messages {
        Messages {
            sockets: Vec::new(),
            record_bytes: Vec::new(),
            record_template: MsghdrTemplate::new(0, 0),
            sender: Peer::Unnamed,
            replies: Vec::new(),
            in_flight: Vec::new(),
            free: Vec::new(),
            users: vec![0; RING_MESSAGE_BUFFERS_MAX],
            headers: Vec::new(),
        }
    }

    /// Gives back memory that only a burst has needed.
    pub(super) fn trim(&mut self) {
        self.headers.truncate(TRIMMED_HEADERS);
        if self.in_flight.iter().all(Option::is_none) {
            self.in_flight = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The place of a limit of records, if there are not too many.
    pub(super) fn limit_of_records(&mut self, bytes: usize) -> Option<u16> {
        let known = self.record_bytes.iter().position(|known| *known == bytes);
        let place = known.unwrap_or_else(|| {
            self.record_bytes.push(bytes);
            self.record_bytes.len() - 1
        });
        u16::try_from(place).ok()
    }

    /// Takes in a datagram socket, if there are not too many.
    pub(super) fn open(
        &mut self,
        message_bytes_max: usize,
        reports: bool,
        is_coalesced: bool,
    ) -> Option<u16> {
        let has_control = reports || is_coalesced;
        let socket = DatagramSocket {
            template: MsghdrTemplate::new(sys::NAME_BYTES, if has_control { sys::CONTROL_BYTES } else { 0 }),
            message_bytes_max,
            reports,
            refuses_segments: false,
        };
        let place = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
        let name = u16::try_from(place).ok()?;
        if place == self.sockets.len() {
            self.sockets.push(None);
        }
        self.sockets[place] = Some(socket);
        Some(name)
    }

    /// Whether one more datagram socket can be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.sockets.len() < usize::from(u16::MAX)
    }

    pub(super) fn socket(&mut self, role: Role) -> Option<&mut DatagramSocket> {
        match role {
            Role::Datagrams { socket } => self.sockets.get_mut(usize::from(socket))?.as_mut(),
            _ => None,
        }
    }

    /// What the kernel is told of the room in front of what it receives.
    pub(super) fn template(&self, role: Role) -> *const libc::msghdr {
        match role {
            Role::Datagrams { socket } => match self.sockets.get(usize::from(socket)) {
                Some(Some(socket)) => &raw const *socket.template.header,
                _ => &raw const *self.record_template.header,
            },
            _ => &raw const *self.record_template.header,
        }
    }
}

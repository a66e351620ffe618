//! What is asked of servers.

use std::fmt;

/// A kind of socket, as servers are told it on their command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    Unix,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::Unix => "unix",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How messages are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Connections that stay, `pipeline` messages in flight on each.
    Stream { connections: usize, message_bytes: usize, pipeline: usize },
    /// Connect, one message, its answer, close; so many at once.
    Connect { at_once: usize, message_bytes: usize },
    /// Client sockets with `window` datagrams in flight each. `runs`: sent as one with `UDP_SEGMENT`, when all of the
    /// last have come back.
    Datagrams { sockets: usize, datagram_bytes: usize, window: usize, runs: bool },
}

/// Whether the time to an answer is measured as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    No,
    Yes,
    /// In a quick run too.
    Always,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Whether it is also measured with the load on the other core.
    times: Times,
    /// Whether it is a part of a quick run.
    pub(crate) quick: bool,
}

impl Workload {
    pub(crate) const ALL: &[Workload] = &[
        Workload::stream("tcp-1x64", Kind::Tcp, 1, 64, 1).with_times(),
        Workload::stream("tcp-50x64", Kind::Tcp, 50, 64, 1).always_with_times().in_quick(),
        Workload::stream("tcp-1000x64", Kind::Tcp, 1000, 64, 1).with_times(),
        Workload::stream("tcp-50x64-p16", Kind::Tcp, 50, 64, 16).in_quick(),
        Workload::stream("tcp-50x1024", Kind::Tcp, 50, 1024, 1),
        Workload::stream("tcp-8x64k", Kind::Tcp, 8, 65_536, 1).with_times().in_quick(),
        Workload::stream("unix-1x64", Kind::Unix, 1, 64, 1),
        Workload::stream("unix-50x64", Kind::Unix, 50, 64, 1).with_times().in_quick(),
        Workload::stream("unix-1000x64", Kind::Unix, 1000, 64, 1),
        Workload::datagrams("udp-1x64", 1, 64, 1, false).with_times(),
        Workload::datagrams("udp-8x64-p32", 8, 64, 32, false).with_times().in_quick(),
        Workload::datagrams("udp-8x1400-p32", 8, 1400, 32, false),
        Workload::datagrams("udp-8x64-runs", 8, 64, 32, true).in_quick(),
        // Last: it leaves the system full of connections that wait to be forgotten.
        Workload {
            name: "tcp-connect",
            kind: Kind::Tcp,
            shape: Shape::Connect { at_once: 16, message_bytes: 64 },
            times: Times::Yes,
            quick: true,
        },
    ];

    const fn stream(
        name: &'static str,
        kind: Kind,
        connections: usize,
        message_bytes: usize,
        pipeline: usize,
    ) -> Workload {
        let shape = Shape::Stream { connections, message_bytes, pipeline };
        Workload { name, kind, shape, times: Times::No, quick: false }
    }

    const fn datagrams(
        name: &'static str,
        sockets: usize,
        datagram_bytes: usize,
        window: usize,
        runs: bool,
    ) -> Workload {
        let shape = Shape::Datagrams { sockets, datagram_bytes, window, runs };
        Workload { name, kind: Kind::Udp, shape, times: Times::No, quick: false }
    }

    const fn with_times(self) -> Workload {
        Workload { times: Times::Yes, ..self }
    }

    const fn always_with_times(self) -> Workload {
        Workload { times: Times::Always, ..self }
    }

    const fn in_quick(self) -> Workload {
        Workload { quick: true, ..self }
    }

    /// Whether it is also measured with the load on the other core.
    pub(crate) fn is_timed(&self, quick: bool) -> bool {
        match self.times {
            Times::No => false,
            Times::Yes => !quick,
            Times::Always => true,
        }
    }

    pub(crate) fn message_bytes(&self) -> usize {
        match self.shape {
            Shape::Stream { message_bytes, .. } | Shape::Connect { message_bytes, .. } => message_bytes,
            Shape::Datagrams { datagram_bytes, .. } => datagram_bytes,
        }
    }

    /// How many peers a server has at once.
    pub(crate) fn connections(&self) -> usize {
        match self.shape {
            Shape::Stream { connections, .. } => connections,
            Shape::Connect { at_once, .. } => at_once,
            Shape::Datagrams { sockets, .. } => sockets,
        }
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        let plural = |count: usize, what: &str| {
            if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
        };
        match self.shape {
            Shape::Stream { connections, message_bytes, pipeline } => {
                let flight = if pipeline > 1 { format!(", {pipeline} in flight") } else { String::new() };
                format!("{} × {}{flight}", plural(connections, "connection"), bytes(message_bytes))
            }
            Shape::Connect { message_bytes, .. } => {
                format!("connect, {} and back, close", bytes(message_bytes))
            }
            Shape::Datagrams { sockets, datagram_bytes, window, runs } => {
                let flight = match (window, runs) {
                    (1, _) => String::new(),
                    (window, false) => format!(", {window} in flight"),
                    (window, true) => format!(", runs of {window}"),
                };
                format!("{} × {}{flight}", plural(sockets, "socket"), bytes(datagram_bytes))
            }
        }
    }
}

fn bytes(count: usize) -> String {
    if count >= 1024 && count.is_multiple_of(1024) {
        format!("{} KiB", count / 1024)
    } else {
        format!("{count} B")
    }
}

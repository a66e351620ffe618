//! What the system knows of this process, and of its sockets.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use procfs::process::{LimitValue, Process};

/// The usual figures of a process; `None`: the system does not tell.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_descriptors: Option<u64>,
    /// Infinite where there is no limit.
    pub(super) descriptors_max: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Figures {
    pub(super) fn read() -> Figures {
        let Ok(process) = Process::myself() else { return Figures::default() };
        let mut figures = Figures::default();
        if let Ok(stat) = process.stat() {
            figures.cpu_seconds = Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64);
            figures.resident_bytes = Some(stat.rss.saturating_mul(procfs::page_size()));
            figures.virtual_bytes = Some(stat.vsize);
            figures.threads = u64::try_from(stat.num_threads).ok();
        }
        figures.open_descriptors = process.fd_count().ok().map(|count| count as u64);
        figures.descriptors_max =
            process.limits().ok().map(|limits| match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most as f64,
                LimitValue::Unlimited => f64::INFINITY,
            });
        figures
    }
}

/// What a worker's thread has of the processors.
#[derive(Debug)]
pub(crate) struct WorkerTime {
    /// Its number.
    pub(crate) worker: usize,
    pub(crate) busy_seconds: f64,
    pub(crate) waiting_seconds: f64,
}

impl WorkerTime {
    /// Those of threads that are called `prefix` and a number, as workers are; the system keeps 15 bytes of a name, so that long ones
    /// may be missing. In the order of their numbers.
    pub(crate) fn of_all(prefix: &str, workers: usize) -> Vec<WorkerTime> {
        let tasks = Process::myself().and_then(|process| process.tasks());
        let mut times = Vec::new();
        for task in tasks.into_iter().flatten().flatten() {
            let Ok(stat) = task.stat() else { continue };
            let number = stat.comm.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
            let Some(worker) =
                number.and_then(|number| number.parse().ok()).filter(|number| *number < workers)
            else {
                continue;
            };
            // A kernel may have none.
            let Ok(scheduled) = task.schedstat() else { continue };
            let [busy_seconds, waiting_seconds] = [scheduled.sum_exec_runtime, scheduled.run_delay]
                .map(|ns| Duration::from_nanos(ns).as_secs_f64());
            times.push(WorkerTime { worker, busy_seconds, waiting_seconds });
        }
        times.sort_by_key(|time| time.worker);
        times.dedup_by_key(|time| time.worker);
        times
    }
}

/// Datagrams that the kernel has dropped because a UDP socket's buffer was full, by the address that the socket is bound to.
/// These are all UDP sockets of the network that this process is in.
#[derive(Debug, Default)]
pub(super) struct KernelDrops(HashMap<SocketAddr, u64>);

impl KernelDrops {
    pub(super) fn read() -> KernelDrops {
        let mut drops = KernelDrops::default();
        for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
            drops.add(&fs::read_to_string(table).unwrap_or_default());
        }
        drops
    }

    /// Of all sockets with this address together; `None`: there is none.
    pub(super) fn of(&self, address: SocketAddr) -> Option<u64> {
        // What interface an address belongs to is not in the table.
        self.0.get(&SocketAddr::new(address.ip(), address.port())).copied()
    }

    /// A table as in proc_net_udp(5): the second column is the local address, the last one the drops.
    fn add(&mut self, table: &str) {
        for line in table.lines().skip(1) {
            let local = line.split_ascii_whitespace().nth(1).and_then(address);
            let drops = line.split_ascii_whitespace().last().and_then(|drops| drops.parse::<u64>().ok());
            if let (Some(local), Some(drops)) = (local, drops) {
                *self.0.entry(local).or_default() += drops;
            }
        }
    }
}

/// `0100007F:22B8`: an address as words of 32 bits in the machine's own order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_exact_mut(4).zip(words) {
                to.copy_from_slice(&from);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::read();
        assert!(
            figures.resident_bytes > Some(0) && figures.virtual_bytes >= figures.resident_bytes,
            "{figures:?}"
        );
        assert!(figures.open_descriptors > Some(2) && figures.threads > Some(0), "{figures:?}");
    }

    #[test]
    fn what_a_socket_cannot_take_is_counted_by_its_address() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        assert_eq!(KernelDrops::read().of(address), Some(0));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent = (0..10_000).filter(|_| sender.send_to(&[0; 1024], address).is_ok()).count() as u64;
        let dropped = KernelDrops::read().of(address).unwrap();
        let mut received = 0;
        receiver.set_nonblocking(true).unwrap();
        while receiver.recv(&mut [0; 2048]).is_ok() {
            received += 1;
        }
        assert!(dropped > 0, "{received}");
        assert_eq!(dropped + received, sent);
        drop(receiver);
        assert_eq!(KernelDrops::read().of(address), None);
    }

    #[test]
    fn addresses_are_read() {
        let [local, v6] =
            [SocketAddr::from(([127, 0, 0, 1], 0x22B8)), SocketAddr::from((Ipv6Addr::LOCALHOST, 53))];
        if cfg!(target_endian = "little") {
            assert_eq!(address("0100007F:22B8"), Some(local));
            assert_eq!(address("00000000000000000000000001000000:0035"), Some(v6));
        }
        for text in ["", ":", "0100007F", "0100007F:", "xx:yy", "0100007:22B8"] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }
}

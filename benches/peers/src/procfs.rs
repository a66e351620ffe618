//! What `/proc` says of a process and of all that come from it: proc(5).

use std::fs;
use std::io;

use resay_measure::process::family;

/// The proportional set size of a process and its descendants in bytes, and how many they are.
pub(crate) fn memory(root: u32) -> io::Result<(u64, usize)> {
    let mut sum = 0;
    let family = family(root)?;
    for pid in &family {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "smaps_rollup without Pss"))?;
        sum += kib * 1024;
    }
    Ok((sum, family.len()))
}

/// Whether a UDP socket is bound to this port.
pub(crate) fn is_bound_to_udp(port: u16) -> io::Result<bool> {
    let suffix = format!(":{port:04X}");
    let table =
        fs::read_to_string("/proc/net/udp")? + &fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    Ok(table.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&suffix))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        assert!(memory(std::process::id()).unwrap().0 > 4096);
    }

    #[test]
    fn a_bound_port_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_bound_to_udp(port).unwrap());
    }
}

//! What `/proc` says of a process and of all that come from it: proc(5).

use std::fs;
use std::io;

use resay_measure::process::{self, Stat};

/// The process and all its descendants that live, itself first.
pub(crate) fn family(root: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![root];
    // Most servers are one process, and to look through all of them takes a while.
    if children_of_threads(root).is_some_and(|children| children.is_empty()) {
        return Ok(found);
    }
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may be gone by now.
        let Some(stat) = Stat::of(pid) else { continue };
        parents.push((pid, stat.parent));
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found)
}

/// By `/proc/PID/task/TID/children`, where the kernel has it.
fn children_of_threads(pid: u32) -> Option<String> {
    let mut children = String::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        children.push_str(&fs::read_to_string(thread.ok()?.path().join("children")).ok()?);
    }
    Some(children)
}

/// The processor time of a process, its descendants, and those of them that have ended, in nanoseconds.
pub(crate) fn cpu_time_ns(root: u32) -> io::Result<u64> {
    let mut sum = 0;
    for pid in family(root)? {
        // It may have ended since; then its parent has its time, or will have.
        if let (Ok(time_ns), Some(stat)) = (process::cpu_time_ns(pid), Stat::of(pid)) {
            sum += time_ns + stat.children_cpu_time_ns()?;
        }
    }
    Ok(sum)
}

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
    fn this_process_is_its_own_family() {
        let pid = std::process::id();
        assert_eq!(family(pid).unwrap().first(), Some(&pid));
        assert!(cpu_time_ns(pid).unwrap() > 0);
        assert!(memory(pid).unwrap().0 > 4096);
    }

    #[test]
    fn a_bound_port_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_bound_to_udp(port).unwrap());
    }
}

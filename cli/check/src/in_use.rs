//! Whether a process has a plugin file loaded that was written to since: then its memory has changed with the file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes that are looked at; more are not.
const PROCESSES_MAX: usize = 10_000;
/// The clock of process starts is in whole seconds here.
const SLACK_SECONDS: i64 = 2;

/// A remark, if a process that is older than the file's last change has the file loaded. Only processes of the same user
/// can be seen (all, by root).
pub(crate) fn hint(file: &Path) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    let boot = boot_time()?;
    let processes = fs::read_dir("/proc").ok()?.take(PROCESSES_MAX);
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let found = numbers.filter(|process| {
        started(*process).is_some_and(|ticks| boot + ticks + SLACK_SECONDS < metadata.mtime())
            && has_mapped(*process, &metadata)
    });
    let found: Vec<String> = found.map(|process| format!("{process} ({})", name(process))).collect();
    if found.is_empty() {
        return None;
    }
    Some(format!(
        "loaded by process {}, which is older than the file's last change: if it was overwritten in place (cp), that \
         process may crash; replace plugins by rename (mv, install)",
        found.join(", ")
    ))
}

/// In seconds since 1970.
fn boot_time() -> Option<i64> {
    fs::read_to_string("/proc/stat").ok()?.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

/// In seconds since the system started (proc_pid_stat(5)).
fn started(process: u32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may have blanks and parentheses in it.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    // SAFETY: takes a number.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks.checked_div(ticks_a_second)
}

fn name(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether the file is mapped (proc_pid_maps(5)): device and inode are its own.
fn has_mapped(process: u32, file: &fs::Metadata) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    maps.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let (Some(device), Some(inode)) = (fields.next(), fields.next()) else { return false };
        let device = device.split_once(':').and_then(|(major, minor)| {
            Some(libc::makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
        });
        inode.parse() == Ok(file.ino()) && device == Some(file.dev())
    })
}

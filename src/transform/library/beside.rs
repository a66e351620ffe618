//! The libraries that a plugin has beside itself, read from its file (elf(5)): those of its `DT_NEEDED` that are in a
//! directory of its `DT_RUNPATH` or `DT_RPATH` which begins with `$ORIGIN`.
//!
//! The dynamic linker takes `$ORIGIN` from the path that it opens. A copy in memory has no directory, so what the plugin
//! needs is opened before it: the linker then knows it by its name (`DT_SONAME`).

use std::fs;
use std::path::{Path, PathBuf};

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const PROGRAM_HEADER_BYTES: usize = 56;
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
/// More than any library has.
const ENTRIES_MAX: usize = 4096;

/// The files that the plugin needs from its own directory, or from one that it names from there. `None`: nothing can be
/// read of it.
pub(super) fn needed(plugin: &Path) -> Option<Vec<PathBuf>> {
    let bytes = fs::read(plugin).ok()?;
    let directory = plugin.parent()?;
    let elf = Elf::of(&bytes)?;
    let entries = elf.dynamic()?;
    let value_of = |tag| entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
    let strings = elf.offset(value_of(STRING_TABLE)?)?;
    // A run path replaces the older kind.
    let path = value_of(RUNPATH).or_else(|| value_of(RPATH)).and_then(|at| elf.text(strings, at))?;
    let directories: Vec<PathBuf> = path
        .split(':')
        .filter_map(|part| part.strip_prefix("$ORIGIN").or_else(|| part.strip_prefix("${ORIGIN}")))
        .map(|rest| directory.join(rest.trim_start_matches('/')))
        .collect();
    let names = entries.iter().filter(|(tag, _)| *tag == NEEDED).filter_map(|(_, at)| elf.text(strings, *at));
    let find =
        |name: &str| directories.iter().map(|directory| directory.join(name)).find(|file| file.is_file());
    Some(names.filter(|name| !name.contains('/')).filter_map(find).collect())
}

/// A file of 64 bits in this machine's order.
struct Elf<'a> {
    bytes: &'a [u8],
    /// Type, place in the file, address and size in the file of each program header.
    headers: Vec<(u32, u64, u64, u64)>,
}

impl<'a> Elf<'a> {
    fn of(bytes: &'a [u8]) -> Option<Elf<'a>> {
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        if !bytes.starts_with(b"\x7fELF") || bytes.get(4..6) != Some(&[2, order]) {
            return None;
        }
        let first = usize::try_from(u64_at(bytes, 32)?).ok()?;
        let count = usize::from(u16::from_ne_bytes(bytes.get(56..58)?.try_into().ok()?));
        let headers = bytes.get(first..)?.chunks_exact(PROGRAM_HEADER_BYTES).take(count);
        let header = |header: &[u8]| {
            let kind = u32::from_ne_bytes(header.get(..4)?.try_into().ok()?);
            Some((kind, u64_at(header, 8)?, u64_at(header, 16)?, u64_at(header, 32)?))
        };
        Some(Elf { bytes, headers: headers.filter_map(header).collect() })
    }

    /// The entries of the dynamic section: tag and value.
    fn dynamic(&self) -> Option<Vec<(u64, u64)>> {
        let (_, at, _, bytes) = self.headers.iter().find(|(kind, ..)| *kind == DYNAMIC)?;
        let (at, bytes) = (usize::try_from(*at).ok()?, usize::try_from(*bytes).ok()?);
        let section = self.bytes.get(at..at.checked_add(bytes)?)?;
        let entry = |entry: &[u8]| Some((u64_at(entry, 0)?, u64_at(entry, 8)?));
        Some(
            section
                .chunks_exact(16)
                .take(ENTRIES_MAX)
                .map_while(entry)
                .take_while(|(tag, _)| *tag != 0)
                .collect(),
        )
    }

    /// Where an address is in the file.
    fn offset(&self, address: u64) -> Option<u64> {
        self.headers.iter().filter(|(kind, ..)| *kind == LOAD).find_map(|(_, at, begin, bytes)| {
            let distance = address.checked_sub(*begin)?;
            (distance < *bytes).then(|| at.checked_add(distance)).flatten()
        })
    }

    fn text(&self, strings: u64, at: u64) -> Option<&'a str> {
        let begin = usize::try_from(strings.checked_add(at)?).ok()?;
        let rest = self.bytes.get(begin..)?;
        std::str::from_utf8(rest.get(..rest.iter().position(|byte| *byte == 0)?)?).ok()
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_is_survived() {
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("part");
        for len in (0..300).chain([1000, 4096, 100_000]) {
            fs::write(&part, &whole[..len]).unwrap();
            let _ = needed(&part);
        }
        assert!(Elf::of(&whole).unwrap().dynamic().unwrap().iter().any(|(tag, _)| *tag == NEEDED));
    }
}

//! The symbols of a library, read from the file: nothing of it runs.

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const DATA_LITTLE: u8 = 1;
const TYPE_SHARED: u16 = 3;
const SECTION_SYMTAB: u32 = 2;
const SECTION_DYNSYM: u32 = 11;
const SYMBOL_BYTES: usize = 24;
/// Bindings of symbols that others can bind to: global, weak, and unique in the process (GNU).
const BINDINGS: [u8; 3] = [1, 2, 10];
/// Types of symbols that nobody can bind to: sections and files.
const TYPES_OF_THE_FILE: [u8; 2] = [3, 4];
/// Visibilities: those that others see are default and protected.
const VISIBILITIES: [u8; 2] = [0, 3];

/// The names that the library exports: whatever the dynamic linker could bind a symbol of another library to. `None`: not
/// a format that is read here. `Err`: no library, or not all of one.
pub(crate) fn exports(file: &[u8]) -> Result<Option<Vec<String>>, String> {
    if !file.starts_with(MAGIC) {
        return Err("not a library: no ELF file".to_owned());
    }
    if file.get(4) != Some(&CLASS_64) || file.get(5) != Some(&DATA_LITTLE) {
        return Ok(None);
    }
    let truncated = || "truncated: a table of the ELF file is missing".to_owned();
    let kind = u16_at(file, 16).ok_or_else(truncated)?;
    if kind != TYPE_SHARED {
        return Err(format!("not a shared library: an ELF file of type {kind} (compile with -shared)"));
    }
    let Some(table) = Symbols::read(file, SECTION_DYNSYM)? else { return Ok(None) };
    let exported = |symbol: &&[u8]| {
        let is_defined = u16_at(symbol, 6).is_some_and(|section| section != 0);
        let (Some(info), Some(other)) = (symbol.get(4), symbol.get(5)) else { return false };
        is_defined
            && BINDINGS.contains(&(info >> 4))
            && !TYPES_OF_THE_FILE.contains(&(info & 0xf))
            && VISIBILITIES.contains(&(other & 3))
    };
    Ok(Some(table.symbols().filter(exported).filter_map(|one| table.name(one)).collect()))
}

/// The function or variable that has this address, which counts from where the library is loaded. `None`: the library
/// has no symbols but its exports.
pub(crate) fn symbol_at(file: &[u8], address: u64) -> Option<String> {
    let table = Symbols::read(file, SECTION_SYMTAB).ok()??;
    let found = table.symbols().find(|symbol| {
        let bounds = u64_at(symbol, 8).zip(u64_at(symbol, 16));
        bounds.is_some_and(|(start, bytes)| address >= start && address - start < bytes)
    });
    table.name(found?)
}

/// A table of symbols, and the strings of their names.
struct Symbols<'a> {
    entries: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// Reads the table of this type. `Ok(None)`: there are no section headers.
    fn read(file: &'a [u8], table: u32) -> Result<Option<Symbols<'a>>, String> {
        let truncated = || "truncated: a table of the ELF file is missing".to_owned();
        // The section headers are usually last: if they are there, so is the rest.
        let sections = u64_at(file, 0x28).ok_or_else(truncated)?;
        let size = usize::from(u16_at(file, 0x3a).ok_or_else(truncated)?);
        let count = usize::from(u16_at(file, 0x3c).ok_or_else(truncated)?);
        let section = |index: usize| {
            let at = usize::try_from(sections).ok()?.checked_add(index.checked_mul(size)?)?;
            file.get(at..at.checked_add(size)?)
        };
        if sections == 0 || count == 0 {
            return Ok(None);
        }
        for index in 0..count {
            let header = section(index).ok_or_else(truncated)?;
            if u32_at(header, 4) == Some(table) {
                let strings =
                    u32_at(header, 40).and_then(|link| section(link as usize)).ok_or_else(truncated)?;
                let entries = content(file, header).ok_or_else(truncated)?;
                let strings = content(file, strings).ok_or_else(truncated)?;
                return Ok(Some(Symbols { entries, strings }));
            }
        }
        Ok(Some(Symbols { entries: &[], strings: &[] }))
    }

    fn symbols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.entries.chunks_exact(SYMBOL_BYTES)
    }

    fn name(&self, symbol: &[u8]) -> Option<String> {
        let text = self.strings.get(u32_at(symbol, 0)? as usize..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&text[..end]).into_owned())
    }
}

fn content<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let at = usize::try_from(u64_at(header, 24)?).ok()?;
    let bytes = usize::try_from(u64_at(header, 32)?).ok()?;
    file.get(at..at.checked_add(bytes)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_is_survived() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for len in (0..200).chain([1000, 4000, 10_000]) {
            let _ = exports(&file[..len]);
            assert_eq!(symbol_at(&file[..len], 0x1000), None);
        }
        assert!(exports(b"#!/bin/sh\n").unwrap_err().contains("not a library"));
        assert!(exports(&file[..1000]).unwrap_err().contains("truncated"));
    }
}

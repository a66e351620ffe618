//! Whether a plugin file may be loaded: whether it is whole, and who could have written it. The engine and
//! `resay plugin check` both ask here.
//!
//! Loading a file runs it. So the rule is that of sudo(8) and ssh(1): the file and every directory above it belong to root
//! or to the effective user, and nobody else may write to them.
//!
//! - The group may write if it is root's, or the effective user's own group. (Root trusts group 0 alone.)
//! - A directory with the sticky bit, as /tmp, may be written to by all: they cannot replace what is not theirs.
//! - `RESAY_PLUGIN_OWNERS=1000,1001` names other users whose files and directories are trusted, for containers in which
//!   root loads the files of a user. A set-user-ID program ignores it.
//!
//! Symbolic links are followed first, and the place where they lead is looked at.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::environment;

/// The variable that names further trusted users.
pub const OWNERS_VARIABLE: &str = "RESAY_PLUGIN_OWNERS";

const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Checks a file: the path without symbolic links, or the reason why it may not be loaded.
pub fn check(path: &Path) -> Result<PathBuf, String> {
    let file = path.canonicalize().map_err(|error| plain(&error))?;
    let metadata = file.metadata().map_err(|error| plain(&error))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let trust = Trust::of_process();
    trust.check(&metadata).map_err(|what| what.text("it", &file))?;
    for directory in file.ancestors().skip(1) {
        let metadata = directory
            .symlink_metadata()
            .map_err(|error| format!("{}: {}", directory.display(), plain(&error)))?;
        trust.check(&metadata).map_err(|what| what.text("its directory", directory))?;
    }
    if !is_complete(&file).map_err(|error| plain(&error))? {
        return Err("is truncated".to_owned());
    }
    Ok(file)
}

/// Who is trusted.
#[derive(Debug)]
struct Trust {
    user: u32,
    group: u32,
    owners: Vec<u32>,
}

/// Who else could write.
#[derive(Debug, PartialEq, Eq)]
enum Untrusted {
    Owner(u32),
    Group(u32),
    Everyone,
}

/// A system error in words alone, without its number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rsplit_once(" (os error ")) {
        (Some(_), Some((words, _))) => words.to_owned(),
        _ => text,
    }
}

impl Trust {
    fn of_process() -> Trust {
        unsafe extern "C" {
            fn geteuid() -> u32;
            fn getegid() -> u32;
        }
        // SAFETY: no arguments.
        let (user, group) = unsafe { (geteuid(), getegid()) };
        let owners = environment::variable(OWNERS_VARIABLE).and_then(|text| text.into_string().ok());
        let owners = owners.unwrap_or_default();
        let owners = owners.split(',').filter_map(|uid| uid.trim().parse().ok()).collect();
        Trust { user, group, owners }
    }

    fn check(&self, metadata: &Metadata) -> Result<(), Untrusted> {
        self.check_mode(metadata.uid(), metadata.gid(), metadata.mode(), metadata.is_dir())
    }

    fn check_mode(&self, owner: u32, group: u32, mode: u32, is_directory: bool) -> Result<(), Untrusted> {
        if owner != 0 && owner != self.user && !self.owners.contains(&owner) {
            return Err(Untrusted::Owner(owner));
        }
        if is_directory && mode & STICKY != 0 {
            return Ok(());
        }
        if mode & WRITABLE_BY_ALL != 0 {
            return Err(Untrusted::Everyone);
        }
        let is_own_group = group == 0 || (self.user != 0 && group == self.group);
        if mode & WRITABLE_BY_GROUP != 0 && !is_own_group {
            return Err(Untrusted::Group(group));
        }
        Ok(())
    }
}

impl Untrusted {
    fn text(&self, what: &str, path: &Path) -> String {
        let path = path.display();
        match self {
            Untrusted::Owner(uid) => format!(
                "{what} ({path}) belongs to user {uid}, who is neither root nor the user of this process and could put \
                 other code there: install a copy of your own, or trust that user with {OWNERS_VARIABLE}={uid}"
            ),
            Untrusted::Group(gid) => {
                format!(
                    "{what} ({path}) is writable by group {gid}, so its members could replace the plugin (chmod g-w)"
                )
            }
            Untrusted::Everyone => {
                format!(
                    "{what} ({path}) is writable by everyone, so anybody could replace the plugin (chmod o-w)"
                )
            }
        }
    }
}

/// Whether the file is as long as its program headers say (elf(5)). The dynamic linker maps what they say, and
/// touching a page behind the end of the file is a SIGBUS. What is no ELF file of this machine is left for the
/// linker to refuse.
fn is_complete(file: &Path) -> io::Result<bool> {
    const LOAD: u32 = 1;
    let file = File::open(file)?;
    let bytes = file.metadata()?.len();
    let mut header = [0; 64];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(!header.starts_with(b"\x7fELF"));
        }
        result => result?,
    }
    let is_64_bit_of_our_order =
        header[4] == 2 && header[5] == if cfg!(target_endian = "little") { 1 } else { 2 };
    if !header.starts_with(b"\x7fELF") || !is_64_bit_of_our_order {
        return Ok(true);
    }
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut value = [0u8; 8];
        if cfg!(target_endian = "little") {
            value[..len].copy_from_slice(&bytes[at..at + len]);
        } else {
            value[8 - len..].copy_from_slice(&bytes[at..at + len]);
        }
        u64::from_ne_bytes(value)
    };
    let (first, size, count) = (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    if size != 56 {
        return Ok(true);
    }
    for index in 0..count {
        let mut program = [0; 56];
        let Some(at) = first.checked_add(index * size) else { return Ok(false) };
        match file.read_exact_at(&mut program, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        let end = number(&program, 8, 8).checked_add(number(&program, 32, 8));
        if number(&program, 0, 4) == u64::from(LOAD) && end.is_none_or(|end| end > bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_belong_to_root_or_the_user_and_nobody_else_may_write() {
        let root = Trust { user: 0, group: 0, owners: Vec::new() };
        let user = Trust { user: 1000, group: 1000, owners: Vec::new() };
        let trusting = Trust { owners: vec![1234], ..Trust { user: 0, group: 0, owners: Vec::new() } };
        let (file, directory) = (false, true);
        let table = [
            // Who asks, owner, group, mode, what; and what is said.
            (&root, 0, 0, 0o755, file, Ok(())),
            (&root, 0, 0, 0o775, file, Ok(())),
            (&root, 0, 50, 0o775, file, Err(Untrusted::Group(50))),
            (&root, 0, 0, 0o757, file, Err(Untrusted::Everyone)),
            (&root, 1234, 0, 0o755, file, Err(Untrusted::Owner(1234))),
            (&trusting, 1234, 0, 0o755, file, Ok(())),
            (&trusting, 1234, 0, 0o757, file, Err(Untrusted::Everyone)),
            (&trusting, 1235, 0, 0o755, file, Err(Untrusted::Owner(1235))),
            (&user, 0, 0, 0o644, file, Ok(())),
            (&user, 1000, 1000, 0o664, file, Ok(())),
            (&user, 1000, 100, 0o664, file, Err(Untrusted::Group(100))),
            (&user, 1001, 1000, 0o644, file, Err(Untrusted::Owner(1001))),
            // The sticky bit of a file means nothing.
            (&root, 0, 0, 0o1757, file, Err(Untrusted::Everyone)),
            (&root, 0, 0, 0o1777, directory, Ok(())),
            (&root, 0, 0, 0o777, directory, Err(Untrusted::Everyone)),
            // Its owner may remove what is in it.
            (&root, 1234, 0, 0o1777, directory, Err(Untrusted::Owner(1234))),
            (&user, 1000, 1000, 0o775, directory, Ok(())),
        ];
        for (trust, owner, group, mode, is_directory, expected) in table {
            let found = trust.check_mode(owner, group, mode, is_directory);
            assert_eq!(found, expected, "{trust:?} {owner} {group} {mode:o}");
        }
    }
}

//! A file of results that takes the place of an older one only when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

/// What will stand at a path.
#[derive(Debug)]
pub(crate) enum Replacement {
    /// A temporary file in the same directory, and where it goes.
    Beside { file: File, temporary: PathBuf, target: PathBuf },
    /// Devices and pipes cannot be replaced, nor can a file in a directory that nobody may write.
    InPlace(File),
}

impl Replacement {
    pub(crate) fn open(path: &Path) -> io::Result<Replacement> {
        // A symbolic link stays one.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let present = match fs::metadata(&target) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let in_place = || OpenOptions::new().write(true).open(&target).map(Replacement::InPlace);
        match present {
            Some(present) if present.is_file() => {
                // What may not be written is not replaced either.
                let old = in_place()?;
                match Replacement::beside(&target) {
                    Ok(new) => new.with_permissions(present.permissions()),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(old),
                    Err(error) => Err(error),
                }
            }
            Some(_) => in_place(),
            None => Replacement::beside(&target),
        }
    }

    fn beside(target: &Path) -> io::Result<Replacement> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidFilename);
        let mut name = target.file_name().ok_or_else(invalid)?.to_owned();
        name.push(format!(".{}.new", process::id()));
        let temporary = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        Ok(Replacement::Beside { file, temporary, target: target.to_owned() })
    }

    fn with_permissions(self, permissions: fs::Permissions) -> io::Result<Replacement> {
        if let Replacement::Beside { file, .. } = &self {
            file.set_permissions(permissions)?;
        }
        Ok(self)
    }

    /// Writes all of it, and lets it take the place.
    pub(crate) fn write(mut self, text: &str) -> io::Result<()> {
        match &mut self {
            Replacement::Beside { file, temporary, target } => {
                file.write_all(text.as_bytes())?;
                // On the disk before the older one is gone from it.
                file.sync_all()?;
                fs::rename(temporary, target)
            }
            Replacement::InPlace(file) => {
                if file.metadata()?.is_file() {
                    file.set_len(0)?;
                }
                file.write_all(text.as_bytes())
            }
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Replacement::Beside { temporary, .. } = self {
            // Gone already where it has taken its place.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_older_file_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("run.json"), directory.path().join("link"));
        fs::write(&file, "older and longer").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("run.json", &link).unwrap();
        drop(Replacement::open(&link).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "older and longer");
        let new = Replacement::open(&link).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "older and longer");
        new.write("new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        Replacement::open(&directory.path().join("other")).unwrap().write("first").unwrap();
        assert_eq!(names(directory.path()), ["link", "other", "run.json"]);
    }

    #[test]
    fn a_device_is_written_and_not_replaced() {
        Replacement::open(Path::new("/dev/null")).unwrap().write("text").unwrap();
        let error = Replacement::open(Path::new("/dev/full")).unwrap().write("text").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(Replacement::open(Path::new("/dev/null/none")).is_err());
        assert!(Replacement::open(Path::new("/")).is_err());
    }
}

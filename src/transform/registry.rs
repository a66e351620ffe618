//! Names to tables: what was registered, what the host loaded, then what is bundled, then the plugin path. Never the working directory.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use resay_plugin::environment;

use super::library::{self, Callee, Change, Contents, FilterTable, Loaded, Table};
use super::spec::{ChainSpec, StageSpec, Target};
use crate::error::{Error, Place, Result, plain};
use crate::values::{nearest, order_few};

/// Where a transform comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransformOrigin {
    /// Given to the engine by its host.
    Registered,
    /// Linked into the engine.
    Bundled,
    /// A shared library.
    File(PathBuf),
}

/// Where transforms are looked up.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    registered: Vec<Callee>,
    /// Filters that the host has linked.
    filters: Vec<FilterTable>,
    /// From files that the host asked for.
    loaded: Vec<(Table, PathBuf)>,
    directories: Vec<PathBuf>,
    /// How many of these, the first, the host has named.
    own_directories: usize,
}

/// Files that this process has loaded, by what they were then; some could not be used. Libraries are never unloaded, so
/// neither is this, and their inodes are not used again.
static LOADED: Mutex<Vec<(FileIdentity, Loaded)>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    /// Of a path without symbolic links.
    fn of(path: PathBuf) -> std::io::Result<FileIdentity> {
        let metadata = fs::metadata(&path)?;
        Ok(FileIdentity {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    fn is_same_inode(&self, other: &FileIdentity) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn is_same_content(&self, other: &FileIdentity) -> bool {
        self.is_same_inode(other) && (self.bytes, self.modified) == (other.bytes, other.modified)
    }
}

/// Those of [`overwritten_plugins`] that this did not return before.
pub(crate) fn new_overwritten_plugins() -> Vec<PathBuf> {
    static REPORTED: Mutex<Vec<FileIdentity>> = Mutex::new(Vec::new());
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = |path: &PathBuf| {
        FileIdentity::of(path.clone()).is_ok_and(|now| {
            let is_new = !reported.contains(&now);
            if is_new {
                reported.push(now);
            }
            is_new
        })
    };
    overwritten_plugins().into_iter().filter(is_new).collect()
}

/// Plugin files that were written to in place after this process had loaded them, as `cp` does. What is loaded of them
/// is no longer what was loaded, and may crash; chains that name them from now on get a copy of what they are now.
/// Replace a plugin by rename (`mv`, `install`) instead: what is loaded stays as it is.
pub fn overwritten_plugins() -> Vec<PathBuf> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut paths = Vec::new();
    for (known, _) in &*loaded {
        let is_overwritten =
            FileIdentity::of(known.path.clone()).is_ok_and(|now| now != *known && now.is_same_inode(known));
        // A file may have been loaded several times.
        if is_overwritten && !paths.contains(&known.path) {
            paths.push(known.path.clone());
        }
    }
    paths
}

impl Registry {
    /// The plugin path is, after `directories`, `RESAY_PLUGIN_PATH`, and then what is installed (see [`installed`]).
    pub(crate) fn new(directories: Vec<PathBuf>) -> Registry {
        let mut directories = directories;
        let own_directories = directories.len();
        if let Some(path) = environment::variable("RESAY_PLUGIN_PATH") {
            directories.extend(env::split_paths(&path).filter(|path| path.is_absolute()));
        }
        directories.extend(installed(env::current_exe().ok().as_deref(), library::own_library().as_deref()));
        Registry {
            registered: Vec::new(),
            filters: Vec::new(),
            loaded: Vec::new(),
            directories,
            own_directories,
        }
    }

    /// Adds a directory of the host's, after those that it has named before. One that is there stays where it is.
    pub(crate) fn add_directory(&mut self, directory: PathBuf) {
        if !self.directories.iter().take(self.own_directories).any(|known| *known == directory) {
            self.directories.insert(self.own_directories, directory);
            self.own_directories += 1;
        }
    }

    /// Adds a transform of the host's own. One of the same name makes way and is given back, so that it can be dropped
    /// where no lock is held.
    pub(crate) fn register(&mut self, callee: Callee) -> Option<Callee> {
        match self.registered.iter_mut().find(|known| known.id() == callee.id()) {
            Some(known) => Some(std::mem::replace(known, callee)),
            None => {
                self.registered.push(callee);
                None
            }
        }
    }

    /// Adds a filter that the host has linked. One of the same name makes way.
    pub(crate) fn register_filter(&mut self, filter: FilterTable) {
        self.filters.retain(|known| known.id() != filter.id());
        self.filters.push(filter);
    }

    /// The filter of this name: one that the host has linked, or one of a plugin file.
    pub(crate) fn find_filter(&self, target: &Target) -> Result<FilterTable> {
        let (path, id) = match target {
            Target::Name(name) => {
                if let Some(filter) = self.filters.iter().find(|known| known.id() == name) {
                    return Ok(filter.clone());
                }
                let Some(path) = self.file_of(name) else {
                    let directories: Vec<_> =
                        self.directories.iter().map(|d| d.display().to_string()).collect();
                    let reason = format!("there is no lib{name}.so in {}", directories.join(", "));
                    return Err(Error::Filter { id: name.clone(), reason });
                };
                (path, Some(name.as_str()))
            }
            Target::File { path, id } => (path.clone(), id.as_deref()),
        };
        let mut filters = self.load(&path)?.filters.into_iter();
        let found = filters.find(|filter| id.is_none_or(|id| filter.id() == id));
        found.ok_or_else(|| Error::Plugin {
            path,
            reason: format!("offers no filter{}", id.map_or(String::new(), |id| format!(" {id:?}"))),
        })
    }

    /// The plugin file of a bare name.
    fn file_of(&self, name: &str) -> Option<PathBuf> {
        let files = [format!("lib{name}.so"), format!("{name}.so")];
        let paths =
            self.directories.iter().flat_map(|directory| files.iter().map(|file| directory.join(file)));
        paths.into_iter().find(|path| path.is_file())
    }

    /// Takes a transform of the host's own out.
    pub(crate) fn unregister(&mut self, id: &str) -> Option<Callee> {
        let place = self.registered.iter().position(|known| known.id() == id)?;
        Some(self.registered.remove(place))
    }

    /// Adds the tables of a file. Those of another file, or of this one as it was, make way.
    pub(crate) fn load_all(&mut self, path: &Path) -> Result<usize> {
        let tables = self.load(path)?.transforms;
        for table in &tables {
            if self.registered.iter().any(|known| known.id() == table.id()) {
                let reason = format!("the host has registered a transform {:?} of its own", table.id());
                return Err(Error::Plugin { path: path.to_owned(), reason });
            }
        }
        self.loaded.retain(|(known, _)| tables.iter().all(|table| table.id() != known.id()));
        self.loaded.extend(tables.iter().map(|table| (table.clone(), path.to_owned())));
        Ok(tables.len())
    }

    /// What each stage of a chain names.
    pub(crate) fn find_all(&mut self, chain: &ChainSpec) -> Result<Vec<Callee>> {
        let place = |error, stage: &StageSpec| match error {
            Error::UnknownTransform { id, hint, .. } => {
                let place = Some(Place::new(stage.at, id.len()));
                Error::UnknownTransform { id, hint, place }
            }
            error => error,
        };
        chain
            .stages
            .iter()
            .map(|stage| self.find(&stage.target).map_err(|error| place(error, stage)))
            .collect()
    }

    /// What a stage of a chain names.
    pub(crate) fn find(&mut self, target: &Target) -> Result<Callee> {
        match target {
            Target::Name(name) => self.find_name(name),
            Target::File { path, id } => self.find_file(path, id.as_deref()).map(Callee::Table),
        }
    }

    fn find_name(&mut self, name: &str) -> Result<Callee> {
        if let Some(callee) = self.registered.iter().find(|callee| callee.id() == name) {
            return Ok(callee.clone());
        }
        self.find_table(name).map(Callee::Table)
    }

    fn find_table(&mut self, name: &str) -> Result<Table> {
        if let Some((table, _)) = self.loaded.iter().find(|(table, _)| table.id() == name) {
            return Ok(table.clone());
        }
        if let Some(table) = library::bundled().into_iter().find(|table| table.id() == name) {
            return Ok(table);
        }
        if let Some(path) = self.file_of(name) {
            return self.find_file(&path, Some(name));
        }
        Err(Error::UnknownTransform { id: name.to_owned(), hint: self.hint_for(name), place: None })
    }

    fn hint_for(&self, name: &str) -> String {
        let mut names: Vec<_> = self.registered.iter().map(Callee::id).collect();
        names.extend(self.loaded.iter().map(|(table, _)| table.id()));
        names.extend(library::bundled().iter().map(Table::id));
        let files = self.plugin_names();
        if let Some(meant) = nearest(name, names.iter().copied().chain(files.iter().map(String::as_str))) {
            return format!(", did you mean {meant:?}?");
        }
        let mut text = format!("; there are {}", names.join(", "));
        if !self.directories.is_empty() {
            let directories: Vec<_> = self.directories.iter().map(|d| d.display().to_string()).collect();
            text += &format!(", and no such plugin in {}", directories.join(", "));
        }
        text + " (a file is named with a slash: ./libmine.so)"
    }

    /// The names that plugin files in the directories can be found by, without loading them.
    fn plugin_names(&self) -> Vec<String> {
        let entries = self.directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
        let name = |entry: fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            let name = file.strip_suffix(".so")?;
            Some(name.strip_prefix("lib").unwrap_or(name).to_owned())
        };
        entries.filter_map(|entry| name(entry.ok()?)).collect()
    }

    fn find_file(&mut self, path: &Path, id: Option<&str>) -> Result<Table> {
        let tables = self.load(path)?.transforms;
        // A path alone names the first.
        let Some(id) = id else {
            return tables.into_iter().next().ok_or_else(|| Error::Plugin {
                path: path.to_owned(),
                reason: "offers no transform".to_owned(),
            });
        };
        tables.iter().find(|table| table.id() == id).cloned().ok_or_else(|| Error::Plugin {
            path: path.to_owned(),
            reason: match nearest(id, tables.iter().map(Table::id)) {
                Some(meant) => format!("offers no transform {id:?}, did you mean {meant:?}?"),
                None => format!("offers no transform {id:?}; it has {}", ids(&tables)),
            },
        })
    }

    /// What a file offers. The same file is not loaded twice.
    fn load(&self, path: &Path) -> Result<Contents> {
        // By the name that the user knows it by.
        let fault = |reason: String| Error::Plugin { path: path.to_owned(), reason };
        let file = resay_plugin::file::check(path).map_err(fault)?;
        let identity = FileIdentity::of(file).map_err(|error| fault(plain(&error)))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that has moved is the same file.
        let known = loaded.iter().find(|(known, _)| known.is_same_content(&identity));
        let contents = match known {
            Some((_, contents)) => contents.clone(),
            None => {
                let change = if loaded.iter().any(|(known, _)| known.is_same_inode(&identity)) {
                    Change::Overwritten
                } else if loaded.iter().any(|(known, _)| known.path == identity.path) {
                    Change::Replaced
                } else {
                    Change::New
                };
                let contents = library::load(&identity.path, change).map_err(fault)?;
                loaded.push((identity, contents.clone()));
                contents
            }
        };
        contents.map_err(fault)
    }

    /// Every transform that a bare name can reach, with its origin; files that cannot be loaded are left out
    /// and reported beside.
    pub(crate) fn list(&mut self) -> (Vec<(Callee, TransformOrigin)>, Vec<Error>) {
        let mut found: Vec<(Callee, TransformOrigin)> = Vec::new();
        let mut errors = Vec::new();
        found.extend(self.registered.iter().cloned().map(|callee| (callee, TransformOrigin::Registered)));
        let loaded = self.loaded.iter();
        found.extend(
            loaded.map(|(table, path)| (Callee::Table(table.clone()), TransformOrigin::File(path.clone()))),
        );
        found.extend(
            library::bundled().into_iter().map(|table| (Callee::Table(table), TransformOrigin::Bundled)),
        );
        for directory in self.directories.clone() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let mut files: Vec<_> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
                .collect();
            order_few(&mut files, |one, other| one < other);
            for file in files {
                match self.load(&file) {
                    Ok(contents) => found.extend(
                        contents
                            .transforms
                            .into_iter()
                            .map(|table| (Callee::Table(table), TransformOrigin::File(file.clone()))),
                    ),
                    // Other libraries may lie beside plugins.
                    Err(Error::Plugin { reason, .. }) if reason.starts_with(library::NO_ENTRY) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        let mut seen = HashSet::new();
        found.retain(|(table, _)| seen.insert(table.id()));
        (found, errors)
    }
}

/// Where installed plugins are: `lib/resay/plugins` of the prefix that the program is in, and of the one that the
/// engine's shared library is in, so that an installed tree can be moved.
///
/// ```text
/// PREFIX/bin/PROGRAM                     PREFIX/lib/resay/plugins
/// PREFIX/lib/libresay.so.1               the same
/// PREFIX/lib64/libresay.so.1             PREFIX/lib64/resay/plugins, then the same
/// PREFIX/lib/TRIPLET/libresay.so.1       PREFIX/lib/TRIPLET/resay/plugins, then the same
/// ```
fn installed(program: Option<&Path>, library: Option<&Path>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(prefix) = program.and_then(Path::parent).and_then(Path::parent) {
        directories.push(prefix.join("lib/resay/plugins"));
    }
    if let Some(beside) = library.and_then(Path::parent) {
        directories.push(beside.join("resay/plugins"));
        if let Some(above) = beside.parent() {
            let has_triplets = above.file_name().is_some_and(|name| name == "lib");
            directories.push(above.join(if has_triplets { "resay/plugins" } else { "lib/resay/plugins" }));
        }
    }
    let mut seen = HashSet::new();
    directories.retain(|directory| seen.insert(directory.clone()));
    directories
}

fn ids(tables: &[Table]) -> String {
    tables.iter().map(Table::id).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_plugins_are_where_program_and_library_are() {
        let table: [(&str, &str, &[&str]); 6] = [
            ("/usr/bin/resay", "", &["/usr/lib/resay/plugins"]),
            ("/usr/bin/host", "/usr/lib/libresay.so.1", &["/usr/lib/resay/plugins"]),
            (
                "/srv/host/bin/host",
                "/opt/lib64/libresay.so.1",
                &["/srv/host/lib/resay/plugins", "/opt/lib64/resay/plugins", "/opt/lib/resay/plugins"],
            ),
            (
                "/usr/bin/host",
                "/usr/lib/x86_64-linux-gnu/libresay.so.1",
                &["/usr/lib/resay/plugins", "/usr/lib/x86_64-linux-gnu/resay/plugins"],
            ),
            ("/host", "/libresay.so.1", &["/resay/plugins"]),
            ("", "", &[]),
        ];
        for (program, library, expected) in table {
            let path = |text: &'static str| (!text.is_empty()).then(|| Path::new(text));
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(installed(path(program), path(library)), expected, "{program} {library}");
        }
    }

    #[test]
    fn a_program_that_has_the_engine_in_it_has_no_library_of_it() {
        assert_eq!(library::own_library(), None);
    }
}

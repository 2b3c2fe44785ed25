//! A file that appears under its name whole, or not at all.
//!
//! It is written beside its place, forced to the disk and renamed. Whoever is interrupted before leaves what was there; only a
//! process that was killed outright leaves its hidden `.part` file, which nothing reads. Who may read it is as before; its owner
//! is who wrote it last.

use crate::exit::{Exit, Failure};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What a program gives a file that it makes; the umask takes from it.
const MODE: u32 = 0o666;

/// What of an existing file's mode is kept.
const RIGHTS: u32 = 0o777;

pub(crate) struct NewFile {
    part: NamedTempFile,
    folder: PathBuf,
    place: PathBuf,
}

impl NewFile {
    /// Begins it, before anything is fetched: a folder that cannot be written is said at once. A link is followed.
    ///
    /// # Errors
    /// The place is no place for a file, or the folder cannot be written.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let there = place.metadata().ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return Err(Failure::new(Exit::Usage, format!("{} is no regular file; write - for stdout", path.display())));
        }
        let Some(name) = place.file_name() else {
            return Err(Failure::new(Exit::Usage, format!("{} names no file", path.display())));
        };
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let prefix = format!(".{}.", name.to_string_lossy());
        let rights = there.map(|there| there.permissions().mode() & RIGHTS);
        let part = part(&prefix, &folder, rights).map_err(|fault| Failure::doing(format!("making {}", path.display()), &fault))?;
        Ok(Self { part, folder, place })
    }

    /// Where to write.
    pub(crate) fn writer(&mut self) -> &mut impl Write {
        &mut self.part
    }

    /// Puts it in its place; after this it survives a loss of power.
    ///
    /// # Errors
    /// The disk is full, or the folder is gone. Then it is not there, and what was there still is.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.part.as_file().sync_all()?;
        self.part.persist(&self.place)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Never open to more than it will be, not even while it is written.
fn part(prefix: &str, folder: &Path, rights: Option<u32>) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let mode = Permissions::from_mode(rights.unwrap_or(MODE));
    let part = builder.prefix(prefix).suffix(".part").permissions(mode).tempfile_in(folder)?;
    if let Some(rights) = rights {
        // The umask took from it.
        part.as_file().set_permissions(Permissions::from_mode(rights))?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all.csv");
        let names = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let write = |text: &str| {
            let mut file = NewFile::begin(&place).unwrap();
            file.writer().write_all(text.as_bytes()).unwrap();
            file
        };
        let first = write("one");
        assert!(!place.exists());
        first.finish().unwrap();
        drop(write("half"));
        assert_eq!((std::fs::read_to_string(&place).unwrap().as_str(), names()), ("one", vec!["all.csv".into()]));
        let link = folder.path().join("link.csv");
        std::os::unix::fs::symlink(&place, &link).unwrap();
        let mut linked = NewFile::begin(&link).unwrap();
        linked.writer().write_all(b"two").unwrap();
        linked.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "two");
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_is_replaced_keeps_who_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all.csv");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & RIGHTS;
        NewFile::begin(&place).unwrap().finish().unwrap();
        // The last has a right that a usual umask takes.
        for rights in [0o600, 0o640, 0o622] {
            std::fs::set_permissions(&place, Permissions::from_mode(rights)).unwrap();
            let file = NewFile::begin(&place).unwrap();
            assert_eq!(mode(file.part.path()), rights, "while it is written");
            file.finish().unwrap();
            assert_eq!(mode(&place), rights);
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().to_owned(), "/dev/null".into(), "..".into()] {
            assert_eq!(NewFile::begin(&place).err().map(|failure| failure.exit), Some(Exit::Usage), "{place:?}");
        }
        let nowhere = NewFile::begin(&folder.path().join("none/all.csv")).err().unwrap();
        assert!(nowhere.exit == Exit::Failure && nowhere.message.contains("none/all.csv"), "{nowhere:?}");
    }
}

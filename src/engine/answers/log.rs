//! The log of one process' answers: a file with a name on each line, and what this process knows besides. Names alone,
//! no secret.
//!
//! *Guarantees:* room for a note is had before it is promised, so writing it takes one write in place, into the system's
//! page cache, which outlives a killed process. Where nothing was noted the file has empty lines. It stays small.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where Linux says which start of the machine this is; elsewhere there is no log.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// A log with more in it is written anew, with what still counts.
pub(super) const COMPACT_ABOVE: u64 = 1 << 20;
/// So many answers that did not leave are remembered.
const MOST_UNSENT: usize = 4_096;
/// The file grows by so many empty lines.
const GROWTH: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    /// Behind this nothing is promised yet.
    end: u64,
    /// Answers that may leave, and where the note of each goes.
    promised: HashMap<String, u64>,
    /// Those that left and whose write-ahead entries may still stand.
    standing: HashSet<String>,
    /// Those that did not leave.
    unsent: HashSet<String>,
}

impl Log {
    /// An empty log.
    pub(super) fn begin(path: PathBuf) -> io::Result<Self> {
        Self::write(path, HashSet::new(), HashMap::new(), HashSet::new())
    }

    /// Has room for a note on this name.
    pub(super) fn promise(&mut self, name: &str) -> io::Result<()> {
        if self.end > COMPACT_ABOVE {
            let (standing, promised) = (self.standing.clone(), self.promised.clone());
            *self = Self::write(self.path.clone(), standing, promised, self.unsent.clone())?;
        }
        let end = self.end + room(name);
        while self.size < end {
            self.file.write_all_at(&[b'\n'; GROWTH], self.size)?;
            self.size += GROWTH as u64;
        }
        self.promised.insert(name.to_owned(), self.end);
        self.end = end;
        Ok(())
    }

    /// Notes that the answer leaves. Whatever becomes of the write, this process knows.
    pub(super) fn note(&mut self, name: &str) -> io::Result<()> {
        self.standing.insert(name.to_owned());
        match self.promised.remove(name) {
            Some(place) => self.file.write_all_at(name.as_bytes(), place),
            None => Ok(()),
        }
    }

    /// The answer does not leave any more.
    pub(super) fn withdraw(&mut self, name: &str) {
        self.promised.remove(name);
    }

    /// Its write-ahead entry is gone: nobody will ask.
    pub(super) fn settle(&mut self, name: &str) {
        self.standing.remove(name);
    }

    /// The answer was to leave and does not any more. If there are too many of these, nothing is known of it.
    pub(super) fn disown(&mut self, name: &str) {
        self.promised.remove(name);
        if self.unsent.len() < MOST_UNSENT {
            self.unsent.insert(name.to_owned());
        }
    }

    /// Nobody will ask of it any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.unsent.remove(name);
    }

    /// Whether it is known that the answer did not leave and will not.
    pub(super) fn is_unsent(&self, name: &str) -> bool {
        self.unsent.contains(name)
    }

    /// How many answers are ahead of the end of their write-ahead entries.
    pub(super) fn ahead(&self) -> usize {
        self.standing.len() + self.promised.len()
    }

    /// A log with these names, and room for those that are promised, in place of what there was.
    fn write(
        path: PathBuf,
        standing: HashSet<String>,
        mut promised: HashMap<String, u64>,
        unsent: HashSet<String>,
    ) -> io::Result<Self> {
        let mut text = boot()?;
        for name in &standing {
            text.extend(["\n", name]);
        }
        text.push('\n');
        let mut end = text.len() as u64;
        for (name, place) in &mut promised {
            *place = end;
            end += room(name);
        }
        let size = end + GROWTH as u64;
        text.extend(std::iter::repeat_n('\n', size as usize - text.len()));

        let beside = path.with_extension("new");
        let file = create(&beside, &text).and_then(|file| fs::rename(&beside, &path).map(|()| file));
        // Else the next attempt would find it.
        let file = file.inspect_err(|_| drop(fs::remove_file(&beside)))?;
        Ok(Self { path, file, size, end, promised, standing, unsent })
    }
}

/// The names that a process noted since the machine started. What it was about to note as it ended may be cut short: it
/// names nobody.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    match text.split_once('\n') {
        Some((start, names)) if start == boot()? => Ok(names.to_owned()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// With the end of its line.
fn room(name: &str) -> u64 {
    name.len() as u64 + 1
}

fn create(path: &Path, text: &str) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    Ok(file)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT)?.trim().to_owned())
}

//! The folder where the processes of this plugin have their logs of answers.
//!
//! *Guarantees:* it is ours, and nobody else may look into it; else no log is begun there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use uuid::Uuid;

use super::log::{self, Log};

const NAME: &str = "vault-plugin-secrets-openai";
const SUFFIX: &str = ".answers";
/// No sweep comes so late that it would still need the log of a process that wrote nothing for so long.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn within(parent: &Path) -> Self {
        Self(parent.join(NAME))
    }

    /// The log of the process of this id, empty. What others left long ago goes.
    pub(super) fn begin(&self, id: Uuid) -> io::Result<Log> {
        if !self.0.is_dir() {
            DirBuilder::new().mode(0o700).create(&self.0)?;
        }
        let found = fs::symlink_metadata(&self.0)?;
        // Before a file is created there: who else owns the folder, or may write into it, chooses what that file is.
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.clear_out()?;
        Log::begin(self.path(id))
    }

    /// What the process of this id noted.
    pub(super) fn read(&self, id: Uuid) -> io::Result<String> {
        log::read(&self.path(id))
    }

    /// Removes what others left long ago.
    fn clear_out(&self) -> io::Result<()> {
        for other in fs::read_dir(&self.0)?.flatten() {
            let age = other.metadata().and_then(|other| other.modified()).ok();
            if age.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > KEPT) {
                // It only takes room.
                drop(fs::remove_file(other.path()));
            }
        }
        Ok(())
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("{id}{SUFFIX}"))
    }
}

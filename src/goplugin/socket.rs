//! The unix socket for the host: its path, its permissions, and the removal of its file. The protocol on the socket is
//! not known here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::Error;
use super::environment::Environment;

/// The longest path: `sun_path` holds 108 bytes, including the terminator.
const MAX_PATH_BYTES: usize = 107;

/// A listening socket and its file.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// The socket's file. Dropping the value removes the file from the host's directory.
pub(super) struct SocketFile(PathBuf);

impl Socket {
    /// Listens on a new socket `plugin<random>` in the directory that the host named (PROTOCOL 1.5).
    pub(super) fn bind(environment: &Environment) -> Result<Self, Error> {
        let path = environment.socket_directory.join(format!("plugin{}", rand::random::<u64>()));
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(Error::PathTooLong(path));
        }
        let failed = |source| Error::Listen { path: path.clone(), source };
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let file = SocketFile(path.clone());
        if let Some(group) = &environment.socket_group {
            share_with(group_id(group)?, &path).map_err(failed)?;
        }
        Ok(Self { listener, file })
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // An error means that the file is already gone.
        let _ = fs::remove_file(&self.0);
    }
}

/// Allows connections from the owner and the group only.
fn share_with(group: u32, path: &Path) -> io::Result<()> {
    chown(path, None, Some(group))?;
    let group_taken = fs::metadata(path)?.gid() == group;
    let directory = fs::metadata(path.parent().unwrap_or(path))?.mode();
    fs::set_permissions(path, Permissions::from_mode(socket_mode(group_taken, directory)))
}

/// The mode of the socket's file. gVisor accepts a change of group without any effect. The socket then opens to
/// everybody, if its directory excludes others, as Vault's directory does (0770).
fn socket_mode(group_taken: bool, directory: u32) -> u32 {
    const OTHERS: u32 = 0o007;
    let keeps_others_out = directory & OTHERS == 0;
    if !group_taken && keeps_others_out { 0o666 } else { 0o660 }
}

/// Parses a number, or looks up a name in `/etc/group`. An image from scratch has no other source, and Vault sends
/// numbers.
fn group_id(group: &str) -> Result<u32, Error> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    find_group(&groups, group).ok_or_else(|| Error::Group(group.to_owned()))
}

/// Finds the id of a name in lines of the form `name:password:id:members`.
fn find_group(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(directory: &Path, group: Option<String>) -> Environment {
        Environment { socket_directory: directory.to_owned(), socket_group: group, ..Environment::default() }
    }

    #[tokio::test]
    async fn the_socket_lies_in_the_named_directory_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&environment(directory.path(), None)).unwrap();
        let path = socket.file.path().to_owned();
        assert_eq!(path.parent(), Some(directory.path()));
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("plugin"));
        assert!(path.exists());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_group_gets_the_socket_and_others_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let own_group = fs::metadata(directory.path()).unwrap().gid();
        let socket = Socket::bind(&environment(directory.path(), Some(own_group.to_string()))).unwrap();
        let metadata = fs::metadata(socket.file.path()).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o660);
        assert_eq!(metadata.gid(), own_group);
    }

    #[test]
    fn only_a_closed_directory_opens_a_socket_whose_group_was_not_taken() {
        assert_eq!(socket_mode(true, 0o770), 0o660);
        assert_eq!(socket_mode(false, 0o770), 0o666);
        assert_eq!(socket_mode(false, 0o775), 0o660);
        assert_eq!(socket_mode(false, 0o1777), 0o660);
    }

    #[tokio::test]
    async fn an_unknown_group_is_refused_and_leaves_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        let result = Socket::bind(&environment(directory.path(), Some("no such group".to_owned())));
        assert!(matches!(result, Err(Error::Group(name)) if name == "no such group"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_path_beyond_the_systems_limit_is_named() {
        let result = Socket::bind(&environment(&Path::new("/tmp").join("x".repeat(100)), None));
        assert!(matches!(result, Err(Error::PathTooLong(_))));
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let error = Socket::bind(&environment(Path::new("/nowhere"), None)).err().unwrap().to_string();
        assert!(error.starts_with("cannot listen on /nowhere/plugin"), "{error}");
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let groups = "root:x:0:\nvaulted:x:7:\nvault:x:1000:a,b\nbroken\n";
        assert_eq!(find_group(groups, "vault"), Some(1000));
        assert_eq!(find_group(groups, "vau"), None);
        assert_eq!(find_group(groups, "broken"), None);
    }
}

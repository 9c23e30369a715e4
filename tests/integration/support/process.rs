//! Child processes that end with their test, however the test ends. Linux only, because of `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time for a process to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A child process that ends on drop.
pub(crate) struct Subprocess {
    child: Child,
}

impl Subprocess {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")) }
    }

    /// Exit status of the process, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is a child of this one")
    }

    /// Kills the process with `-9`.
    pub(crate) fn kill(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM, and kills the process after the grace time.
    pub(crate) fn stop(&mut self) {
        let deadline = Instant::now() + GRACE;
        if self.ended().is_none() {
            signal(self.child.id(), Signal::TERM);
        }
        while self.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        self.kill();
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ids of the processes that run `executable`, even if its file was replaced.
pub(crate) fn running(executable: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| runs(*id, executable)).collect()
}

fn runs(id: u32, executable: &Path) -> bool {
    let Ok(link) = fs::read_link(format!("/proc/{id}/exe")) else { return false };
    link.to_str().map(|path| path.trim_end_matches(" (deleted)")) == executable.to_str()
}

/// The unix socket on which the process listens, from `/proc/net/unix`.
pub(crate) fn listens_on(id: u32) -> Option<PathBuf> {
    const LISTENS: &str = "00010000";
    let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.flatten();
    let own: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    let sockets = fs::read_to_string("/proc/net/unix").ok()?;
    sockets.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, LISTENS, _, _, inode, path] = columns[..] else { return None };
        own.contains(&PathBuf::from(format!("socket:[{inode}]"))).then(|| PathBuf::from(path))
    })
}

pub(crate) fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.cast_signed()).expect("a process id is never 0");
    // The process may have ended already.
    let _ = kill_process(id, signal);
}

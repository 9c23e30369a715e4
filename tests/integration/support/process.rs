//! Processes a test started: ended and waited for, however the test itself ends. Linux only, for `/proc`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take over its own end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A child process that does not outlive its owner.
pub(crate) struct Subprocess {
    child: Child,
}

impl Subprocess {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")) }
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our own child")
    }

    /// `kill -9`: it gets no say.
    pub(crate) fn kill(&mut self) {
        // It may have ended already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as a service manager does, and kills it when it does not.
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

/// The processes that run the program `executable` now, even if its file was replaced since.
pub(crate) fn running(executable: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| runs(*id, executable)).collect()
}

fn runs(id: u32, executable: &Path) -> bool {
    let Ok(link) = fs::read_link(format!("/proc/{id}/exe")) else { return false };
    link.to_str().map(|path| path.trim_end_matches(" (deleted)")) == executable.to_str()
}

pub(crate) fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.cast_signed()).expect("a process id is never 0");
    // It may be gone already, which is what the caller is after or will notice.
    let _ = kill_process(id, signal);
}

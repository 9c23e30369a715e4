//! Keeps what this process holds in memory from reaching a disk: no swapping where the host wants that, no core dump.
//!
//! *Guarantees:* nothing here stops the process. What cannot be had is told in one warning. Pages are locked when they
//! are first used, so reserved memory that nothing uses, such as most of a thread's stack, takes none.

use std::fmt;

/// Why memory cannot be locked.
#[derive(Debug, PartialEq, Eq)]
enum LockError {
    /// An allocation beyond the limit of locked memory would fail, and end the process.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "Linux has the limit"))]
    Limit(u64),
    /// The system refused, in its own words.
    Refused(String),
}

/// Locks what is in memory now and what will be.
pub(super) fn lock() {
    if let Err(error) = system::lock() {
        tracing::warn!(
            "the server locks its memory, but this plugin cannot lock its own ({error}), so keys may be swapped to disk: \
             allow it by `setcap cap_ipc_lock=+ep` on the plugin's file or LimitMEMLOCK=infinity for the server, or turn \
             swap off"
        );
    }
}

/// Has the system make no core dump of this process, and let no other process of the same user read its memory.
pub(super) fn forbid_dumps() {
    if let Err(error) = system::forbid_dumps() {
        tracing::warn!(%error, "a core dump of this plugin cannot be forbidden; it would hold keys");
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(bytes) => write!(f, "no more than {bytes} bytes may be locked"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::io;
    use rustix::mm::{MlockAllFlags, mlockall};
    use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior};
    use rustix::thread::{CapabilitySet, capabilities};

    use super::LockError;

    pub(super) fn lock() -> Result<(), LockError> {
        let may_exceed =
            capabilities(None).is_ok_and(|ours| ours.effective.contains(CapabilitySet::IPC_LOCK));
        check_limit(getrlimit(Resource::Memlock).current, may_exceed)?;
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
            .map_err(|error| LockError::Refused(error.to_string()))
    }

    /// Under a limit the lock itself may succeed, and an allocation later then fails.
    pub(super) fn check_limit(limit: Option<u64>, may_exceed: bool) -> Result<(), LockError> {
        match limit {
            Some(limit) if !may_exceed => Err(LockError::Limit(limit)),
            _ => Ok(()),
        }
    }

    pub(super) fn forbid_dumps() -> io::Result<()> {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::LockError;

    pub(super) fn lock() -> Result<(), LockError> {
        Err(LockError::Refused("not on this system".to_owned()))
    }

    pub(super) fn forbid_dumps() -> Result<(), std::convert::Infallible> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_limit_stands_in_the_way_of_all_but_the_privileged() {
        assert_eq!(system::check_limit(None, false), Ok(()));
        assert_eq!(system::check_limit(Some(65_536), true), Ok(()));
        let error = system::check_limit(Some(65_536), false).unwrap_err();
        assert_eq!(error.to_string(), "no more than 65536 bytes may be locked");
    }

    #[test]
    fn a_process_that_forbids_dumps_is_not_dumpable() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        forbid_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}

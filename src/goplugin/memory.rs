//! Keeps secrets in memory off the disk: no swap if the host locks its memory, and no core dumps.
//!
//! *Guarantees:* a failure never stops the process; it is logged as one warning. Pages are locked at first use, so
//! unused reserved memory, such as most of a thread's stack, takes no locked memory.

use std::fmt;

/// The reason why memory cannot be locked.
#[derive(Debug, PartialEq, Eq)]
enum LockError {
    /// Locked memory is limited to this many bytes. An allocation beyond the limit would fail and end the process.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "Linux has the limit"))]
    Limit(u64),
    /// The system refused, with this error text.
    Refused(String),
}

/// Locks current and future memory of the process.
pub(super) fn lock() {
    if let Err(error) = system::lock() {
        tracing::warn!(
            "keys may be swapped to disk: the server locks its memory, but this plugin cannot lock its own ({error}). Run \
             `setcap cap_ipc_lock=+ep` on the plugin's file, set LimitMEMLOCK=infinity for the server, or turn swap off"
        );
    }
}

/// Disables core dumps. Other processes of the same user can no longer read the memory, either.
pub(super) fn forbid_dumps() {
    if let Err(error) = system::forbid_dumps() {
        tracing::warn!(%error, "cannot disable core dumps of this plugin; a core dump would hold keys");
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

    /// Refuses to lock under a limit, because the lock itself may succeed and a later allocation would fail.
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

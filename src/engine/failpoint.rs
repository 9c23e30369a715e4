//! Failpoints: named points between two steps, at which tests end the process. Also times that tests shorten.
//!
//! Only builds with the feature `failpoints` contain this code, and no released plugin has the feature. Without the
//! feature, `failpoint!` is empty and `shortened!` is its argument. A failpoint does nothing until it is armed: for
//! the process by a file in the folder `FOLDER`, or for one task of a test by a `Trap`.

/// A failpoint with this name.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::engine::failpoint::reach($name).await;
    };
}
pub(super) use failpoint;

/// A time, or the seconds in the environment variable.
macro_rules! shortened {
    ($variable:literal, $time:expr) => {{
        #[cfg(feature = "failpoints")]
        let time = $crate::engine::failpoint::read_time($variable, $time);
        #[cfg(not(feature = "failpoints"))]
        let time = $time;
        time
    }};
}
pub(super) use shortened;

#[cfg(feature = "failpoints")]
pub use self::armed::{FOLDER, Trap};
#[cfg(feature = "failpoints")]
pub(super) use self::armed::{reach, read_time};

#[cfg(feature = "failpoints")]
mod armed {
    use std::path::PathBuf;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;
    use std::{env, fs, future, process};

    use parking_lot::Mutex;
    use tokio::sync::Notify;

    /// Environment variable with the folder of armed failpoints. A file arms the failpoint of its name and contains the
    /// number of passes before the process ends. The file is deleted then, so the next process passes.
    pub const FOLDER: &str = "OPENAI_FAILPOINTS";

    /// Stops one task of a test at a failpoint, as if the process had ended there. The test drops the task.
    #[derive(Debug)]
    pub struct Trap {
        /// The failpoint; `None` for any.
        point: Option<String>,
        state: Mutex<State>,
        stopped: Notify,
    }

    #[derive(Debug)]
    struct State {
        /// Number of failpoints that the task still passes.
        passes: u32,
        caught: Option<&'static str>,
    }

    tokio::task_local! {
        static TRAP: Arc<Trap>;
    }

    impl Trap {
        /// Stops at this failpoint, after `passes` passes.
        pub fn at(point: &str, passes: u32) -> Arc<Self> {
            Self::new(Some(point.to_owned()), passes)
        }

        /// Stops at any failpoint, after `passes` passes.
        pub fn after(passes: u32) -> Arc<Self> {
            Self::new(None, passes)
        }

        fn new(point: Option<String>, passes: u32) -> Arc<Self> {
            let state = Mutex::new(State { passes, caught: None });
            Arc::new(Self { point, state, stopped: Notify::new() })
        }

        /// The outcome of `work`; `None` if it was stopped.
        pub async fn run<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
            tokio::select! {
                biased;
                outcome = TRAP.scope(Arc::clone(self), work) => self.caught().is_none().then_some(outcome),
                () = self.stopped.notified() => None,
            }
        }

        /// The failpoint at which the task stopped.
        pub fn caught(&self) -> Option<&'static str> {
            self.state.lock().caught
        }

        /// True if the task must stop here. The trap then records this failpoint.
        fn catches(&self, name: &'static str) -> bool {
            let mut state = self.state.lock();
            if state.caught.is_some() {
                return true;
            }
            if self.point.as_ref().is_some_and(|point| point != name) {
                return false;
            }
            if let Some(left) = state.passes.checked_sub(1) {
                state.passes = left;
                return false;
            }
            state.caught = Some(name);
            true
        }
    }

    /// Ends the process or stops the task, if the failpoint is armed.
    pub(in crate::engine) async fn reach(name: &'static str) {
        abort_if_armed(name);
        let trap = TRAP.try_with(Arc::clone).ok();
        if let Some(trap) = trap.filter(|trap| trap.catches(name)) {
            trap.stopped.notify_one();
            future::pending::<()>().await;
        }
    }

    /// The seconds in the environment variable, or else `time`.
    pub(in crate::engine) fn read_time(variable: &str, time: Duration) -> Duration {
        let seconds = env::var(variable).ok().and_then(|value| value.parse().ok());
        seconds.map_or(time, Duration::from_secs)
    }

    fn abort_if_armed(name: &str) {
        static CURRENT_FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
        static COUNTING: Mutex<()> = Mutex::new(());
        let Some(folder) = CURRENT_FOLDER.get_or_init(|| env::var_os(FOLDER).map(PathBuf::from)) else {
            return;
        };
        let _counting = COUNTING.lock();
        let file = folder.join(name);
        let Ok(passes) = fs::read_to_string(&file) else { return };
        if let Some(left) = passes.trim().parse::<u32>().unwrap_or(0).checked_sub(1) {
            // A count that cannot be written stays for the next pass.
            drop(fs::write(&file, left.to_string()));
        } else {
            drop(fs::remove_file(&file));
            process::abort();
        }
    }
}

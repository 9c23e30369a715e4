//! Named points in the gaps of what takes several steps, where tests end the process, and times that tests shorten.
//!
//! Only the feature `failpoints` compiles any of it: without it `failpoint!` is empty and `shortened!` is the time
//! it is given. No plugin is shipped with the feature. With it a point does nothing until it is armed, for this
//! process by a file in the folder that `FOLDER` names, or for one task of a test by a `Trap`. It knows no point
//! by name; what stands between the parentheses is the name.

/// A gap: what stands before it is done, what comes after it is not.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::engine::failpoint::reach($name).await;
    };
}
pub(super) use failpoint;

/// A time, or what the environment's variable has in its place, in seconds.
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
    use std::sync::{Arc, Mutex, OnceLock, PoisonError};
    use std::time::Duration;
    use std::{env, fs, future, process};

    use tokio::sync::Notify;

    /// The variable with the folder in which a file arms the point of its name: it holds how often the point is
    /// still passed. The file goes as the process ends, so that the next process passes.
    pub const FOLDER: &str = "OPENAI_FAILPOINTS";

    /// Where one task of a test stops, as if its process had ended there: it goes no further, and the test drops it.
    #[derive(Debug)]
    pub struct Trap {
        /// Only this point; else any.
        point: Option<String>,
        state: Mutex<State>,
        sprung: Notify,
    }

    #[derive(Debug)]
    struct State {
        /// How many points are still passed.
        passes: u32,
        caught: Option<&'static str>,
    }

    tokio::task_local! {
        static TRAP: Arc<Trap>;
    }

    impl Trap {
        /// Stops at this point, once it was passed so often.
        pub fn at(point: &str, passes: u32) -> Arc<Self> {
            Self::new(Some(point.to_owned()), passes)
        }

        /// Stops at whatever point comes after so many.
        pub fn after(passes: u32) -> Arc<Self> {
            Self::new(None, passes)
        }

        fn new(point: Option<String>, passes: u32) -> Arc<Self> {
            let state = Mutex::new(State { passes, caught: None });
            Arc::new(Self { point, state, sprung: Notify::new() })
        }

        /// What `work` comes to, or nothing if it was stopped.
        pub async fn run<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
            tokio::select! {
                biased;
                outcome = TRAP.scope(Arc::clone(self), work) => self.caught().is_none().then_some(outcome),
                () = self.sprung.notified() => None,
            }
        }

        /// Where it stopped.
        pub fn caught(&self) -> Option<&'static str> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).caught
        }

        /// Whether this is the point to stop at; then it is noted.
        fn springs(&self, name: &'static str) -> bool {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The work has come to this point.
    pub(in crate::engine) async fn reach(name: &'static str) {
        end_here_if_armed(name);
        let trap = TRAP.try_with(Arc::clone).ok();
        if let Some(trap) = trap.filter(|trap| trap.springs(name)) {
            trap.sprung.notify_one();
            future::pending::<()>().await;
        }
    }

    /// The seconds in the environment's variable, or else the time itself.
    pub(in crate::engine) fn read_time(variable: &str, time: Duration) -> Duration {
        let seconds = env::var(variable).ok().and_then(|value| value.parse().ok());
        seconds.map_or(time, Duration::from_secs)
    }

    fn end_here_if_armed(name: &str) {
        static FOLDER_IN_USE: OnceLock<Option<PathBuf>> = OnceLock::new();
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let Some(folder) = FOLDER_IN_USE.get_or_init(|| env::var_os(FOLDER).map(PathBuf::from)) else {
            return;
        };
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let file = folder.join(name);
        let Ok(passes) = fs::read_to_string(&file) else { return };
        if let Some(left) = passes.trim().parse::<u32>().unwrap_or(0).checked_sub(1) {
            // What cannot be written is met again at the next pass.
            drop(fs::write(&file, left.to_string()));
        } else {
            drop(fs::remove_file(&file));
            process::abort();
        }
    }
}

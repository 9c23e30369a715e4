//! The engine ended in every gap of what takes several steps. Whatever the point, one sentence holds: what there is at
//! OpenAI is named by a lease or by a record of the mount; and once the ticks have come, by a lease or a role alone.
//!
//! Engine, storage and leases are in this process and the crash is a task that goes no further ([`Trap`]); the same
//! on a real server, where the process ends, is `host/crashes.rs`. It takes an engine built with the feature
//! `failpoints`.
//!
//! [`Trap`]: openai_secrets::engine::failpoint::Trap

mod crowds;
mod points;
mod random;
mod steps;
mod sweeps;
mod torture;
mod world;

use std::fs;
use std::path::Path;

/// Every point there is, as the engine's own text names them.
pub(crate) fn points() -> Vec<String> {
    let mut points = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine"), &mut points);
    points.sort();
    assert!(points.windows(2).all(|pair| pair[0] != pair[1]), "two points have one name: {points:?}");
    points
}

fn collect(folder: &Path, points: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the engine's folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, points);
        } else {
            let text = fs::read_to_string(&path).expect("it is text");
            let calls = text.split("failpoint!(\"").skip(1);
            points.extend(calls.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

//! Random requests at the framework and the engine in one process: none panics or hangs, memory stays flat, and in the
//! end nothing is left. The story is `engine/random.rs`; here it is as long as it has to be.

use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use super::Size;
use super::report::Report;

/// The test that fails on any of these, in a process of its own.
const LIFE: [&str; 4] = ["--exact", "engine::random::a_life", "--ignored", "--nocapture"];

pub(super) async fn run(size: &Size) -> Report {
    let program = std::env::current_exe().expect("this is a program");
    let mut life = Command::new(program);
    life.args(LIFE).env("RANDOM_REQUESTS", size.random_requests.to_string());
    let start = Instant::now();
    let output =
        life.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("this program runs again");
    let told = String::from_utf8_lossy(&output.stdout);
    // A panic's message is on stderr.
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));

    let mut report = Report::default();
    let title = format!("{} random requests, {} s", size.random_requests, start.elapsed().as_secs());
    let grown = told.split("from 50% to 100%: ").nth(1).and_then(|rest| rest.split(' ').next());
    report.note(format!("{title}: bytes that the second half added"), grown.unwrap_or("unknown"));
    report.exactly(
        format!("{title}: panics, hangs, growth or leftovers"),
        0,
        u64::from(!output.status.success()),
    );
    report
}

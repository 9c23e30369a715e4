//! Clients that read credentials from a running server as fast as it answers, and what came of it.
//!
//! It shares the machine with the server it measures, so it does as little as it can: one thread, one
//! connection a client, answers read and not parsed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod client;
mod report;

use std::process::ExitCode;
use std::rc::Rc;

use arguments::Arguments;
use client::{Client, Left, Tally};
use tokio::task::{JoinSet, LocalSet};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("load: {error}\n{}", arguments::USAGE);
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tally = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, run(&arguments)),
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report::table(&tally, arguments.clients));
    if tally.failures.is_empty() && !tally.latencies.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All clients at once until they have done what they should; what was begun by then is finished and counts.
async fn run(arguments: &Arguments) -> Tally {
    let left = Rc::new(Left::start(arguments.until));
    let mut clients = JoinSet::new();
    for _ in 0..arguments.clients {
        clients.spawn_local(Client::new(arguments).read_while(Rc::clone(&left)));
    }
    let mut all = Tally::default();
    while let Some(one) = clients.join_next().await {
        match one {
            Ok(tally) => all.add(tally),
            Err(error) => all.fail(error.to_string()),
        }
    }
    all
}

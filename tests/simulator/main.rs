//! `openai-simulator`: the simulator of OpenAI's Admin API as a program.

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

mod flags;

use flags::{Flags, USAGE};

/// Exit status of wrong usage (`EX_USAGE`).
const WRONG_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Ok(flags) if flags.help => return print(USAGE).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Ok(flags) => flags,
        Err(sentence) => return fail(&format!("{sentence}\n\n{USAGE}"), WRONG_USAGE),
    };
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("openai-simulator: {error}\n"), 1),
    }
}

async fn run(flags: Flags) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let simulator = flags.settings.start().await?;
    if let (Some(path), Some(pem)) = (&flags.authority, simulator.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    for (project, name) in &flags.accounts {
        simulator.seed_account(project, name, false).map_err(io::Error::other)?;
    }
    print(&format!("listening on {}\n", simulator.url()))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = stdin_closes(), if flags.exit_with_stdin => {}
    }
    Ok(())
}

/// Reads on a separate thread, because a read of standard input cannot be cancelled.
async fn stdin_closes() {
    let (closed, told) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // A read error counts as the end of input.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(closed);
    });
    let _ = told.await;
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().flush()
}

fn fail(text: &str, status: u8) -> ExitCode {
    // Without stderr, only the exit status reports the error.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(status)
}

//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

/// Printed after an error in the arguments.
pub(crate) const USAGE: &str = "usage: load --server HOST:PORT [--path openai/creds/my-role] [--clients 64] [--seconds 10 | --requests N]\n\
     The token comes from VAULT_TOKEN.";

/// What to read, how often and for how long.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The server; plain HTTP, as a dev server speaks.
    pub(crate) server: SocketAddr,
    /// What is read.
    pub(crate) path: String,
    /// How many read at the same time.
    pub(crate) clients: usize,
    /// When they stop.
    pub(crate) until: Until,
    /// The token they all use.
    pub(crate) token: String,
}

/// When clients stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests of all of them together.
    Requests(usize),
}

impl Arguments {
    /// Reads `--name value` pairs and the environment's token.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words;
        let mut server = None;
        let mut path = "openai/creds/my-role".to_owned();
        let (mut clients, mut until) = (64, Until::Elapsed(Duration::from_secs(10)));
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--server" => server = Some(address(&value)?),
                "--path" => path = value,
                "--clients" => clients = number(&name, &value)?,
                "--seconds" => until = Until::Elapsed(Duration::from_secs(number(&name, &value)? as u64)),
                "--requests" => until = Until::Requests(number(&name, &value)?),
                _ => return Err(format!("no such argument: {name}")),
            }
        }
        let server = server.ok_or("--server is missing")?;
        let token = std::env::var("VAULT_TOKEN").map_err(|_| "VAULT_TOKEN is not set")?;
        Ok(Self { server, path, clients, until, token })
    }
}

/// `HOST:PORT`, also as it stands in VAULT_ADDR.
fn address(value: &str) -> Result<SocketAddr, String> {
    let bare = value.trim_start_matches("http://").trim_end_matches('/');
    bare.parse().map_err(|_| format!("--server takes an address and a port, not {value:?}"))
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    let number: usize = value.parse().map_err(|_| format!("{name} takes a number, not {value:?}"))?;
    if number == 0 { Err(format!("{name} takes a number above 0")) } else { Ok(number) }
}

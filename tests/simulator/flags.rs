//! The flags of `openai-simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::simulator::{Lag, Settings, Tls};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
A strict simulator of OpenAI's Admin API.

  --listen ADDR            where to listen (127.0.0.1:0: a free port)
  --admin-key KEY          the first admin key (made up)
  --organization ID        the organization (made up)
  --project ID             a project there is at first; may repeat (one, made up)
  --seed-account P/NAME    a service account there is at first, in project P; may repeat
  --latency-ms N           how long every call takes (0)
  --lag-ms N               what is made answers 404, and is missing in lists, for up to this time (0)
  --tls CA_FILE            HTTPS by an authority made on the spot; its certificate is written to CA_FILE
  --tls-name NAME          a name or address in that certificate besides loopback; may repeat
  --tls-cert FILE          HTTPS with this certificate chain (PEM) ...
  --tls-key FILE           ... and this private key (PEM)
  --exit-with-stdin        ends when standard input closes

Prints `listening on URL` when ready. What it made up and all it holds is at /_sim/state of that host; faults,
limits and more are beside it.
";

/// Everything the flags say.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// How the simulator starts, TLS apart.
    pub(crate) settings: Settings,
    /// Project and name of each account to make at first.
    pub(crate) accounts: Vec<(String, String)>,
    /// Where to write the authority made on the spot.
    pub(crate) authority: Option<PathBuf>,
    /// End when standard input closes.
    pub(crate) exit_with_stdin: bool,
    /// Only print the usage.
    pub(crate) help: bool,
    names: Vec<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Flags {
    /// Reads the flags; the error is a sentence.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut projects = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--listen" => flags.settings.listen = parsed::<SocketAddr>(&flag, &value()?)?,
                "--admin-key" => flags.settings.admin_key = value()?,
                "--organization" => flags.settings.organization = value()?,
                "--project" => projects.push(value()?),
                "--seed-account" => flags.accounts.push(account(&value()?)?),
                "--latency-ms" => flags.settings.latency = Duration::from_millis(parsed(&flag, &value()?)?),
                "--lag-ms" => {
                    let most_ms = parsed(&flag, &value()?)?;
                    flags.settings.lag = Some(Lag { most_ms, ..Lag::default() });
                }
                "--tls" => flags.authority = Some(value()?.into()),
                "--tls-name" => flags.names.push(value()?),
                "--tls-cert" => flags.certificate = Some(value()?.into()),
                "--tls-key" => flags.key = Some(value()?.into()),
                "--exit-with-stdin" => flags.exit_with_stdin = true,
                "--help" | "-h" => flags.help = true,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        if !projects.is_empty() {
            flags.settings.projects = projects;
        }
        flags.settings.tls = flags.tls()?;
        Ok(flags)
    }

    fn tls(&self) -> Result<Option<Tls>, String> {
        match (&self.authority, &self.certificate, &self.key) {
            (None, None, None) => Ok(None),
            (Some(_), None, None) => Ok(Some(Tls::Made { names: self.names.clone() })),
            (None, Some(certificate), Some(key)) => {
                Ok(Some(Tls::Given { certificate: read(certificate)?, key: read(key)? }))
            }
            _ => Err("either --tls, or --tls-cert and --tls-key".to_owned()),
        }
    }
}

fn account(text: &str) -> Result<(String, String), String> {
    let (project, name) = text.split_once('/').ok_or("--seed-account takes PROJECT/NAME")?;
    Ok((project.to_owned(), name.to_owned()))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{flag} {value}: {error}"))
}

fn read(path: &PathBuf) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

//! The flags of `openai-simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use openai_simulator::{Certificate, Lag, Settings, Tls};

/// Output of `--help`.
pub(crate) const USAGE: &str = "\
A strict simulator of OpenAI's Admin API.

  --listen ADDR            listen address (127.0.0.1:0: a free port)
  --admin-key KEY          first admin key (default: random)
  --organization ID        organization id (default: random)
  --project ID             id of an initial project; may repeat (default: one random id)
  --seed-account P/NAME    initial service account in project P; may repeat
  --latency-ms N           latency of every call (0)
  --lag-ms N               time in which a new object answers 404 and is missing in lists, at most (0)
  --tls CA_FILE            serve HTTPS with a generated CA; write the CA certificate to CA_FILE
  --tls-name NAME          extra name or address in the certificate besides loopback; may repeat
  --tls-cert FILE          serve HTTPS with this certificate chain (PEM)
  --tls-key FILE           private key of --tls-cert (PEM)
  --client-ca FILE         demand a client certificate of this authority (PEM); with --tls or --tls-cert
  --exit-with-stdin        exit when standard input closes

Prints `listening on URL` when ready. /_sim/state at that address shows all generated values and the whole state;
/_sim/ also controls faults, limits and more.
";

/// The parsed flags.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// Settings of the simulator, without TLS.
    pub(crate) settings: Settings,
    /// Project and name of each initial account.
    pub(crate) accounts: Vec<(String, String)>,
    /// File for the certificate of the generated CA.
    pub(crate) authority: Option<PathBuf>,
    /// Exit when standard input closes.
    pub(crate) exit_with_stdin: bool,
    /// Print the usage and exit.
    pub(crate) help: bool,
    names: Vec<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_authority: Option<PathBuf>,
}

impl Flags {
    /// Parses the flags. The error is a sentence.
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
                "--client-ca" => flags.client_authority = Some(value()?.into()),
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
        let certificate = match (&self.authority, &self.certificate, &self.key) {
            (None, None, None) if self.client_authority.is_some() => {
                return Err("--client-ca needs --tls or --tls-cert".to_owned());
            }
            (None, None, None) => return Ok(None),
            (Some(_), None, None) => Certificate::Made { names: self.names.clone() },
            (None, Some(certificate), Some(key)) => {
                Certificate::Given { certificate: read(certificate)?, key: read(key)? }
            }
            _ => return Err("use either --tls, or --tls-cert with --tls-key".to_owned()),
        };
        let client_authority = self.client_authority.as_ref().map(read).transpose()?;
        Ok(Some(Tls { certificate, client_authority }))
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

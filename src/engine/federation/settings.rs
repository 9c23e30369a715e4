//! The fields of `config/federation`: how a write changes them, and their checks.

use std::time::Duration;

use crate::engine::Error;
use crate::engine::config::checks;
use crate::engine::naming::names::MountTag;
use crate::engine::time::seconds;
use crate::framework::{Call, Field, Path};
use crate::logical::Operation;
use crate::openai::{Endpoint, IdentityProviderId, TokenExchange};

/// A shorter period would leave a replaced key no time to end.
const SHORTEST_PERIOD: Duration = Duration::from_secs(7_200);
/// Maximum length of `issuer` and `audience`.
const LONGEST: usize = 512;

static ISSUER: Field<String> = Field::new(
    "issuer",
    "iss of the tokens: an https URL of its own for each mount, which nobody has to reach. Default: a URL with the mount's \
    tag. A change needs admin_api_key in the same write, or by hand makes a new signing key.",
)
.longest(LONGEST)
.nullable();
static AUDIENCE: Field<String> = Field::new(
    "audience",
    "aud of the tokens. Default: OpenAI's URL with the mount's tag. A change needs admin_api_key in the same write, or by \
    hand makes a new signing key.",
)
.longest(LONGEST)
.nullable();
static PROVIDER: Field<String> = Field::new(
    "identity_provider_id",
    "OpenAI's id of a workload identity provider that an operator registers by hand with jwks. Without it, Vault registers \
    one with the admin key.",
);
static TOKEN_ENDPOINT: Field<String> = Field::new(
    "token_endpoint",
    "URL of OpenAI's token exchange: https, or http to this machine. A change needs admin_api_key in the same write, or by \
    hand makes a new signing key.",
)
.default(TokenExchange::DEFAULT_ENDPOINT);
static PERIOD: Field<Duration> = Field::new(
    "key_rotation_period",
    "Time between two rotations of the signing key, at least 2h; 0 for by hand only.",
)
.default(0);
static ADMIN_KEY: Field<String> = Field::new(
    "admin_api_key",
    "The admin key of config, where a write changes token_endpoint, issuer or audience of a provider that Vault manages.",
)
.sensitive();
pub(super) static FORCE: Field<bool> = Field::new(
    "force",
    "Delete the record even if the provider cannot be deleted at OpenAI. The answer names the provider.",
)
.default(false)
.query()
.only_on(Operation::Delete);

/// Fields of a write.
pub(super) struct Sent {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) provider: Option<IdentityProviderId>,
    pub(super) token_endpoint: Option<String>,
    pub(super) period: Option<Duration>,
    pub(super) admin_key: Option<String>,
}

/// Adds the fields to the path.
pub(super) fn all<E: Send + Sync + 'static>(path: Path<E>) -> Path<E> {
    path.fields(&[&ISSUER, &AUDIENCE, &PROVIDER, &TOKEN_ENDPOINT, &PERIOD, &ADMIN_KEY, &FORCE])
}

impl Sent {
    /// The sent fields. `null` stands for the default of the mount with this tag.
    pub(super) fn of(call: &Call, tag: &MountTag) -> Result<Self, Error> {
        let text = |field: &Field<String>, default: String| {
            let sent = call.sent(field)?.filter(|text| !text.is_empty());
            Ok::<_, Error>(if call.takes_away(field) { Some(default) } else { sent })
        };
        let sent = Self {
            issuer: text(&ISSUER, default_issuer(tag))?,
            audience: text(&AUDIENCE, default_audience(tag))?,
            provider: checks::optional(&call.sent(&PROVIDER)?.unwrap_or_default(), PROVIDER.name())?,
            token_endpoint: call.sent(&TOKEN_ENDPOINT)?.filter(|text| !text.is_empty()),
            period: call.sent(&PERIOD)?,
            admin_key: call.sent(&ADMIN_KEY)?,
        };
        sent.check()?;
        Ok(sent)
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(issuer) = &self.issuer {
            check_url(ISSUER.name(), issuer)?;
            if !issuer.starts_with("https://") {
                return Err(Error::field("issuer must begin with https://"));
            }
        }
        if let Some(endpoint) = &self.token_endpoint {
            check_url(TOKEN_ENDPOINT.name(), endpoint)?;
        }
        if self.audience.as_ref().is_some_and(|text| !text.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::field("audience must be visible ASCII characters, without spaces"));
        }
        for (name, text) in [(ISSUER.name(), &self.issuer), (AUDIENCE.name(), &self.audience)] {
            if text.as_ref().is_some_and(|text| text.contains('*')) {
                return Err(Error::field(format!(
                    "{name} must not contain *, which OpenAI takes for a wildcard"
                )));
            }
        }
        if self.period.is_some_and(|period| !period.is_zero() && period < SHORTEST_PERIOD) {
            return Err(Error::field(format!(
                "key_rotation_period must be 0 or at least {}",
                seconds::text(SHORTEST_PERIOD)
            )));
        }
        Ok(())
    }
}

/// The issuer of a mount without one of its own.
pub(super) fn default_issuer(tag: &MountTag) -> String {
    format!("https://vault.local/v1/openai-{tag}")
}

/// The audience of a mount without one of its own.
pub(super) fn default_audience(tag: &MountTag) -> String {
    format!("{}#vault-{tag}", Endpoint::DEFAULT)
}

fn check_url(field: &str, text: &str) -> Result<(), Error> {
    checks::parsed::<Endpoint>(text, field).map(drop)
}

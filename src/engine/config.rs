//! `config`: the admin key, and how OpenAI is reached with it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schedule::Schedule;
use super::schedule_fields::ScheduleFields;
use super::{Engine, Error, issuer, rfc3339};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Collection, Data, Operation, Record, Response};
use crate::openai::{AdminKey, AdminKeyId, Endpoint, OrganizationId, Urgency};

/// The stored configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The key that everything is done with.
    pub admin_api_key: AdminKey,
    /// OpenAI's id of it, where it is known: rotation deletes the old key by it.
    #[serde(default)]
    pub admin_api_key_id: Option<AdminKeyId>,
    /// The organization that the key belongs to.
    pub organization_id: OrganizationId,
    /// Where the API is.
    #[serde(default = "default_endpoint")]
    pub api_endpoint: String,
    /// PEM certificates trusted besides the public roots; empty for none.
    #[serde(default)]
    pub ca_cert: String,
    /// Whether a write tries key and organization.
    #[serde(default = "yes")]
    pub verify_connection: bool,
    /// Zero for no rotation by period.
    #[serde(default, with = "super::seconds")]
    pub automatic_rotation_period: Duration,
    /// How long after its time a rotation may begin; zero for any time.
    #[serde(default, with = "super::seconds")]
    pub automatic_rotation_window: Duration,
    /// Five cron fields in UTC; empty for no rotation by schedule.
    #[serde(default)]
    pub rotation_schedule: String,
    /// Stops the automatic rotation, whatever period or schedule say.
    #[serde(default)]
    pub disable_automated_rotation: bool,
    /// How much longer than its lease a key lives at OpenAI.
    #[serde(default = "default_margin", with = "super::seconds")]
    pub key_expiry_margin: Duration,
    /// When a revocation answers.
    #[serde(default)]
    pub revocation_mode: RevocationMode,
    /// The pace, if it is set; zero learns it.
    #[serde(default)]
    pub max_requests_per_minute: u32,
    /// Whether OpenAI's costs are read.
    #[serde(default)]
    pub quota_tracking: bool,
    /// When the admin key was set or rotated last.
    pub last_rotated: DateTime<Utc>,
}

/// When a revocation answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationMode {
    /// When the key is dead.
    #[default]
    Strict,
    /// At once; the key is ended from a queue.
    Queue,
}

impl Record for Config {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
}

pub(super) static CONFIG: Collection<Config> = Collection::new("config");
/// The name of the only record.
pub(super) const ONLY: &str = "";
/// Held by whoever changes the configuration.
pub(super) const LOCK: &str = "config";

/// OpenAI's own.
const DEFAULT_ENDPOINT: &str = "https://api.openai.com/v1";
/// As long as a write waits for OpenAI.
const PATIENCE: Duration = Duration::from_secs(30);

static ADMIN_KEY: Field<String> =
    Field::new("admin_api_key", "Admin API key of the organization. It is never shown.")
        .required()
        .sensitive();
static ADMIN_KEY_ID: Field<String> = Field::new(
    "admin_api_key_id",
    "OpenAI's id of the admin key, by which rotation deletes it. Found by the key's redacted value if not given.",
);
static ORGANIZATION: Field<String> =
    Field::new("organization_id", "The organization that the admin key belongs to, such as org-123456.")
        .required();
static ENDPOINT: Field<String> = Field::new(
    "api_endpoint",
    "Where the API is: https, or http to this machine. Changing it needs the admin key in the same write.",
)
.default(DEFAULT_ENDPOINT);
static CA_CERT: Field<String> =
    Field::new("ca_cert", "PEM certificates to trust besides the public roots.").default("");
static VERIFY: Field<bool> =
    Field::new("verify_connection", "Try key and organization before they are stored.").default(true);
static PERIOD: Field<Duration> =
    Field::new("automatic_rotation_period", "How often the admin key is rotated; 0 for never.")
        .default(0)
        .alias("rotation_period");
static WINDOW: Field<Duration> =
    Field::new("automatic_rotation_window", "How long after its time a rotation may begin; 0 for any time.")
        .default(0)
        .alias("rotation_window");
static SCHEDULE: Field<String> = Field::new(
    "rotation_schedule",
    "When the admin key is rotated: five cron fields, in UTC. Not with a period.",
)
.default("");
static DISABLE: Field<bool> =
    Field::new("disable_automated_rotation", "Stop the automatic rotation of the admin key.").default(false);
static MARGIN: Field<Duration> = Field::new(
    "key_expiry_margin",
    "How much longer than its lease a key may live at OpenAI, where it ends by itself.",
)
.default(60);
static MODE: Field<String> = Field::new(
    "revocation_mode",
    "strict: a revocation answers when the key is dead. queue: at once, and the key is ended as OpenAI allows.",
)
.default("strict")
.allowed(&["strict", "queue"]);
static RATE: Field<i64> =
    Field::new("max_requests_per_minute", "How many calls OpenAI takes a minute; 0 learns it.").default(0);
static QUOTA: Field<bool> =
    Field::new("quota_tracking", "Read the projects' costs for the metrics.").default(false);

const HELP: Help = Help {
    synopsis: "Configure how OpenAI is reached: admin key, organization, rotation, pace.",
    description: "\
admin_api_key and organization_id are needed at first; a later write changes only what it sends. Key and \
organization are tried before they are stored. A read shows everything but the key. Deleting the configuration \
leaves what was handed out to its leases and to OpenAI's own expiry.

    $ vault write openai/config admin_api_key=sk-admin-... organization_id=org-123456",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("admin_api_key_id", "OpenAI's id of the admin key, where it is known."),
    ResponseField::new::<String>("organization_id", "The organization."),
    ResponseField::new::<String>("api_endpoint", "Where the API is."),
    ResponseField::new::<String>("ca_cert", "Certificates trusted besides the public roots."),
    ResponseField::new::<bool>("verify_connection", "Whether a write tries key and organization."),
    ResponseField::new::<Duration>(
        "automatic_rotation_period",
        "How often the admin key is rotated, in seconds.",
    ),
    ResponseField::new::<Duration>("automatic_rotation_window", "How late a rotation may begin, in seconds."),
    ResponseField::new::<String>("rotation_schedule", "When the admin key is rotated."),
    ResponseField::new::<bool>("disable_automated_rotation", "Whether automatic rotation is stopped."),
    ResponseField::new::<Duration>(
        "key_expiry_margin",
        "How much longer than its lease a key may live, in seconds.",
    ),
    ResponseField::new::<String>("revocation_mode", "strict or queue."),
    ResponseField::new::<i64>("max_requests_per_minute", "The pace; 0 is learned."),
    ResponseField::new::<bool>("quota_tracking", "Whether the projects' costs are read."),
    ResponseField::new::<String>("last_rotated", "When the admin key was set or rotated last."),
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("config", HELP)
            .field(&ADMIN_KEY)
            .field(&ADMIN_KEY_ID)
            .field(&ORGANIZATION)
            .field(&ENDPOINT)
            .field(&CA_CERT)
            .field(&VERIFY)
            .field(&PERIOD)
            .field(&WINDOW)
            .field(&SCHEDULE)
            .field(&DISABLE)
            .field(&MARGIN)
            .field(&MODE)
            .field(&RATE)
            .field(&QUOTA)
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
    ]
}

fn default_endpoint() -> String {
    DEFAULT_ENDPOINT.to_owned()
}

fn default_margin() -> Duration {
    Duration::from_secs(60)
}

fn yes() -> bool {
    true
}

impl RevocationMode {
    fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "strict" => Ok(Self::Strict),
            "queue" => Ok(Self::Queue),
            other => Err(Error::field(format!("revocation_mode must be strict or queue, not {other:?}"))),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Queue => "queue",
        }
    }
}

impl Config {
    /// Whether a client of `other` would be the same: the rest of the configuration does not concern it.
    pub(super) fn connects_like(&self, other: &Self) -> bool {
        self.admin_api_key.expose() == other.admin_api_key.expose()
            && self.organization_id == other.organization_id
            && self.api_endpoint == other.api_endpoint
            && self.ca_cert == other.ca_cert
            && self.max_requests_per_minute == other.max_requests_per_minute
    }

    /// What has to be tried anew when it changes.
    fn reaches_like(&self, other: &Self) -> bool {
        self.connects_like(&Self { max_requests_per_minute: self.max_requests_per_minute, ..other.clone() })
    }

    /// When the admin key is rotated by itself; `None` for never.
    pub(super) fn schedule(&self) -> Result<Option<Schedule>, Error> {
        let by_period = !self.automatic_rotation_period.is_zero();
        let fields = ScheduleFields {
            rotation_period: Some(self.automatic_rotation_period),
            rotation_schedule: Some(self.rotation_schedule.clone()),
            // With a period, too, a window limits how late a rotation may begin; see `admin_key`.
            rotation_window: Some(self.automatic_rotation_window).filter(|_| !by_period),
        };
        fields.schedule().map_err(|error| Error::field(error.to_string()))
    }

    fn view(&self) -> Data {
        let id = self.admin_api_key_id.as_ref().map_or("", AdminKeyId::as_str);
        Data::from_iter(
            [
                ("admin_api_key_id", Value::from(id)),
                ("organization_id", self.organization_id.as_str().into()),
                ("api_endpoint", self.api_endpoint.as_str().into()),
                ("ca_cert", self.ca_cert.as_str().into()),
                ("verify_connection", self.verify_connection.into()),
                ("automatic_rotation_period", self.automatic_rotation_period.as_secs().into()),
                ("automatic_rotation_window", self.automatic_rotation_window.as_secs().into()),
                ("rotation_schedule", self.rotation_schedule.as_str().into()),
                ("disable_automated_rotation", self.disable_automated_rotation.into()),
                ("key_expiry_margin", self.key_expiry_margin.as_secs().into()),
                ("revocation_mode", self.revocation_mode.word().into()),
                ("max_requests_per_minute", self.max_requests_per_minute.into()),
                ("quota_tracking", self.quota_tracking.into()),
                ("last_rotated", rfc3339::text(self.last_rotated).into()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    }

    /// The first configuration: what is required must be there, the rest has its default.
    fn first(call: &Call) -> Result<Self, Error> {
        Ok(Self {
            admin_api_key: admin_key(&call.get(&ADMIN_KEY)?)?,
            admin_api_key_id: None,
            organization_id: organization(&call.get(&ORGANIZATION)?)?,
            api_endpoint: default_endpoint(),
            ca_cert: String::new(),
            verify_connection: true,
            automatic_rotation_period: Duration::ZERO,
            automatic_rotation_window: Duration::ZERO,
            rotation_schedule: String::new(),
            disable_automated_rotation: false,
            key_expiry_margin: default_margin(),
            revocation_mode: RevocationMode::Strict,
            max_requests_per_minute: 0,
            quota_tracking: false,
            last_rotated: Utc::now(),
        })
    }

    /// Puts what the call sends over what is there.
    fn change(&mut self, call: &Call) -> Result<(), Error> {
        self.change_access(call)?;
        set(&mut self.verify_connection, call.sent(&VERIFY)?);
        set(&mut self.automatic_rotation_period, call.sent(&PERIOD)?);
        set(&mut self.automatic_rotation_window, call.sent(&WINDOW)?);
        set(&mut self.rotation_schedule, call.sent(&SCHEDULE)?);
        set(&mut self.disable_automated_rotation, call.sent(&DISABLE)?);
        set(&mut self.key_expiry_margin, call.sent(&MARGIN)?);
        set(&mut self.quota_tracking, call.sent(&QUOTA)?);
        if let Some(mode) = call.sent(&MODE)? {
            self.revocation_mode = RevocationMode::parse(&mode)?;
        }
        if let Some(rate) = call.sent(&RATE)? {
            self.max_requests_per_minute = u32::try_from(rate).map_err(|_| {
                Error::field("max_requests_per_minute must be 0 or a number of calls a minute")
            })?;
        }
        Ok(())
    }

    /// Key, organization and where they are sent: a key must never go to a host that its writer did not name.
    fn change_access(&mut self, call: &Call) -> Result<(), Error> {
        let key = call.sent(&ADMIN_KEY)?.map(|key| admin_key(&key)).transpose()?;
        if let Some(endpoint) = call.sent(&ENDPOINT)? {
            let endpoint = Endpoint::parse(&endpoint)
                .map_err(|error| Error::field(format!("api_endpoint: {error}")))?
                .to_string();
            if endpoint != self.api_endpoint && key.is_none() {
                return Err(Error::field(
                    "api_endpoint can only be changed with admin_api_key in the same write",
                ));
            }
            self.api_endpoint = endpoint;
        }
        if let Some(key) = key {
            if key.expose() != self.admin_api_key.expose() {
                self.last_rotated = Utc::now();
                self.admin_api_key_id = None;
            }
            self.admin_api_key = key;
        }
        if let Some(id) = call.sent(&ADMIN_KEY_ID)? {
            self.admin_api_key_id = if id.is_empty() { None } else { Some(admin_key_id(&id)?) };
        }
        if let Some(id) = call.sent(&ORGANIZATION)? {
            self.organization_id = organization(&id)?;
        }
        set(&mut self.ca_cert, call.sent(&CA_CERT)?);
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        self.schedule()?;
        if self.key_expiry_margin >= issuer::LONGEST_EXPIRY {
            return Err(Error::field("key_expiry_margin must be below one year"));
        }
        Ok(())
    }
}

fn set<T>(place: &mut T, sent: Option<T>) {
    if let Some(sent) = sent {
        *place = sent;
    }
}

fn admin_key(text: &str) -> Result<AdminKey, Error> {
    AdminKey::parse(text).map_err(|error| Error::field(format!("admin_api_key: {error}")))
}

fn admin_key_id(text: &str) -> Result<AdminKeyId, Error> {
    text.parse().map_err(|error| Error::field(format!("admin_api_key_id: {error}")))
}

fn organization(text: &str) -> Result<OrganizationId, Error> {
    text.parse().map_err(|error| Error::field(format!("organization_id: {error}")))
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.config.get(&**call.storage(), ONLY).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let config = engine.config.get(&**call.storage(), ONLY).await?;
    Ok(config.map(|config| Response::new(config.view())))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let _alone = engine.locks.lock(LOCK).await;
    let old = engine.config.get(storage, ONLY).await?;
    call.patches(old.is_some())?;
    let mut config = match old.as_deref() {
        Some(old) => old.clone(),
        None => Config::first(&call)?,
    };
    config.change(&call)?;
    config.check()?;
    let proven = old.as_deref().is_some_and(|old| old.reaches_like(&config));
    let warning = if proven { None } else { prove(&engine, &mut config).await? };
    engine.config.put(storage, ONLY, &config).await?;
    Ok(warning.map(|warning| Response::default().with_warning(warning)))
}

/// Tries key and organization, and finds the key's id. Answers a warning if the id stays unknown.
async fn prove(engine: &Engine, config: &mut Config) -> Result<Option<String>, Error> {
    // Made even if nothing is tried, so that certificates which do not parse are refused now.
    let client = engine.clients.connect(config)?.for_work(Urgency::Check, PATIENCE);
    if !config.verify_connection {
        return Ok(None);
    }
    let found = client.find_admin_key(&config.admin_api_key).await.map_err(Error::Validation)?;
    if config.admin_api_key_id.is_none() {
        config.admin_api_key_id = found.map(|record| record.id);
    }
    Ok(config.admin_api_key_id.is_none().then(|| {
        "OpenAI's list of admin keys does not show which one this is; give admin_api_key_id, or rotation cannot \
         delete it"
            .to_owned()
    }))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let _alone = engine.locks.lock(LOCK).await;
    engine.config.delete(&**call.storage(), ONLY).await?;
    Ok(None)
}

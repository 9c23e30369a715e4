//! `config`: the admin key, and how OpenAI is reached with it. How the key is rotated is `admin_key`'s.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::configuration::{Config, LOCK, ONLY, RevocationMode, default_endpoint, default_margin};
use super::events::Happening;
use super::key_history::KeyHistory;
use super::{Engine, Error, admin_timetable, issuer, key_records, retiring_keys, rfc3339, unended};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Data, Operation, Response, Storage, StorageError};
use crate::openai::{AdminKey, AdminKeyId, Endpoint, OrganizationId, Urgency};

/// As long as a write waits for OpenAI.
const PATIENCE: Duration = Duration::from_secs(30);
/// As long as it tries to connect: an endpoint that is mistyped is told soon.
const TO_CONNECT: Duration = Duration::from_secs(2);

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
.default(Endpoint::DEFAULT);
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
static FORCE: Field<bool> = Field::new(
    "force",
    "On deletion: delete the configuration even if credentials or replaced admin keys still stand at OpenAI.",
)
.default(false)
.query();

const HELP: Help = Help {
    synopsis: "Configure how OpenAI is reached: admin key, organization, rotation, pace.",
    description: "\
admin_api_key and organization_id are needed at first; a later write changes only what it sends. Key and \
organization are tried before they are stored. A read shows everything but the key. A key that rotation has \
replaced is refused. A period and a schedule exclude each other: sending one switches the other off.

Deleting the configuration is refused while credentials or check-outs have still to be ended at OpenAI, which nothing \
can do without it. It deletes admin keys that were replaced and still stand, and is refused while one of them cannot be \
deleted. force=true deletes the configuration all the same: keys then live until their own end at OpenAI.

    $ vault write openai/config admin_api_key=sk-admin-... organization_id=org-123456
    $ vault write openai/config automatic_rotation_period=30d
    $ vault read openai/config",
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
    ResponseField::new::<String>("next_rotation", "When the admin key may be rotated next; empty for never."),
    ResponseField::new::<i64>("rotation_failures", "How often in a row the rotation failed."),
    ResponseField::new::<String>("last_rotation_error", "Why it failed last; empty if it did not."),
    ResponseField::new::<Vec<String>>(
        "retiring_admin_api_key_ids",
        "Admin keys that were replaced and are still to be deleted at OpenAI.",
    ),
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
            .field(&FORCE)
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
    ]
}

impl Config {
    fn view(&self, now: DateTime<Utc>) -> Result<Data, Error> {
        let id = self.admin_api_key_id.as_ref().map_or("", AdminKeyId::as_str);
        let next_rotation = admin_timetable::next(self, now)?.map(rfc3339::text).unwrap_or_default();
        let history = &self.history;
        Ok(Data::from_iter(
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
                ("next_rotation", next_rotation.into()),
                ("rotation_failures", history.failures.into()),
                ("last_rotation_error", history.last_error.as_deref().unwrap_or_default().into()),
                ("retiring_admin_api_key_ids", history.retiring_ids().into()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        ))
    }

    /// The first configuration: what is required must be there, the rest has its default.
    fn first(call: &Call, now: DateTime<Utc>) -> Result<Self, Error> {
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
            last_rotated: now,
            revision: 0,
            history: KeyHistory::default(),
        })
    }

    /// Puts what the call sends over what is there.
    fn change(&mut self, call: &Call, now: DateTime<Utc>) -> Result<(), Error> {
        self.change_access(call, now)?;
        self.change_schedule(call)?;
        set(&mut self.verify_connection, call.sent(&VERIFY)?);
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

    /// When the key is rotated: a period that is sent replaces a schedule, and the other way round.
    fn change_schedule(&mut self, call: &Call) -> Result<(), Error> {
        let (period, schedule) = (call.sent(&PERIOD)?, call.sent(&SCHEDULE)?);
        let sends_period = period.is_some_and(|period| !period.is_zero());
        let sends_schedule = schedule.as_ref().is_some_and(|schedule| !schedule.trim().is_empty());
        if sends_period && !sends_schedule {
            self.rotation_schedule.clear();
        } else if sends_schedule && !sends_period {
            self.automatic_rotation_period = Duration::ZERO;
        }
        set(&mut self.automatic_rotation_period, period);
        set(&mut self.rotation_schedule, schedule);
        set(&mut self.automatic_rotation_window, call.sent(&WINDOW)?);
        Ok(())
    }

    /// Key, organization and where they are sent: a key must never go to a host that its writer did not name.
    fn change_access(&mut self, call: &Call, now: DateTime<Utc>) -> Result<(), Error> {
        let key = call.sent(&ADMIN_KEY)?.map(|key| admin_key(&key)).transpose()?;
        let was = (self.endpoint()?, self.organization_id.clone());
        if let Some(endpoint) = call.sent(&ENDPOINT)? {
            self.change_endpoint(endpoint, key.is_some())?;
        }
        if let Some(key) = key {
            self.take_key(key, now)?;
        }
        if let Some(id) = call.sent(&ORGANIZATION)? {
            self.organization_id = organization(&id)?;
        }
        if was != (self.endpoint()?, self.organization_id.clone()) {
            // The key has another id elsewhere.
            self.admin_api_key_id = None;
        }
        if let Some(id) = call.sent(&ADMIN_KEY_ID)? {
            self.admin_api_key_id = if id.is_empty() { None } else { Some(admin_key_id(&id)?) };
        }
        set(&mut self.ca_cert, call.sent(&CA_CERT)?);
        Ok(())
    }

    /// It stays as it was written, a slash at its end included: who reads it back, as Terraform does, finds no difference.
    fn change_endpoint(&mut self, written: String, with_key: bool) -> Result<(), Error> {
        if endpoint(&written)? != self.endpoint()? && !with_key {
            return Err(Error::field(
                "api_endpoint can only be changed with admin_api_key in the same write",
            ));
        }
        self.api_endpoint = written;
        Ok(())
    }

    /// Where the API is, however it is written.
    fn endpoint(&self) -> Result<Endpoint, Error> {
        endpoint(&self.api_endpoint)
    }

    fn check(&self) -> Result<(), Error> {
        self.schedule()?;
        admin_timetable::check_window(self.automatic_rotation_window)?;
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

fn endpoint(text: &str) -> Result<Endpoint, Error> {
    Endpoint::parse(text).map_err(|error| Error::field(format!("api_endpoint: {error}")))
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
    let Some(config) = config else { return Ok(None) };
    Ok(Some(Response::new(config.view(engine.now())?)))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, now) = (&**call.storage(), engine.now());
    let _alone = engine.locks.lock(LOCK).await;
    let old = engine.stored_config(storage).await?;
    call.patches(old.is_some())?;
    let mut config = match old.as_deref() {
        Some(old) => old.clone(),
        None => Config::first(&call, now)?,
    };
    config.change(&call, now)?;
    config.check()?;
    let proven = old.as_deref().is_some_and(|old| old.reaches_like(&config));
    let unknown = if proven { None } else { prove(&engine, &mut config).await? };
    if old.as_deref().is_none_or(|old| !old.is_same_as(&config)) {
        engine.store_config(storage, &mut config).await?;
        engine.tell(Happening::ConfigWrite, "config");
    }
    let warnings = [unknown, config.warn_of_retiring(), config.warn_of_margin()];
    let warnings: Vec<String> = warnings.into_iter().flatten().collect();
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// Tries key and organization, and finds the key's id. Answers a warning if the id stays unknown.
async fn prove(engine: &Engine, config: &mut Config) -> Result<Option<String>, Error> {
    // Made even if nothing is tried, so that certificates which do not parse are refused now.
    let client = engine.clients.connect(config)?.for_work(Urgency::Check, PATIENCE);
    let client = client.doubting_the_address(TO_CONNECT);
    if !config.verify_connection {
        return Ok(None);
    }
    if let Some(id) = &config.admin_api_key_id {
        return key_records::check_id(&client, "admin_api_key_id", id, &config.admin_api_key)
            .await
            .map(|()| None);
    }
    let found = client.find_admin_key(&config.admin_api_key).await.map_err(Error::Validation)?;
    config.admin_api_key_id = found.map(|record| record.id);
    Ok(config.admin_api_key_id.is_none().then(|| {
        "OpenAI's list of admin keys does not show which one this is; give admin_api_key_id, or rotation cannot \
         delete it"
            .to_owned()
    }))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, force) = (call.storage(), call.get(&FORCE)?);
    let _alone = engine.locks.lock(LOCK).await;
    let left = match engine.stored_config(&**storage).await {
        Ok(None) => return Ok(None),
        Ok(Some(config)) => end_what_needs_it(&engine, storage, &config).await,
        Err(error) => Err(error),
    };
    let warning = match left {
        Ok(()) => None,
        // To delete what cannot be read is the only way to go on.
        Err(error @ Error::Storage(StorageError::Malformed { .. })) => Some(error.to_string()),
        Err(error) if force => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    engine.config.delete(&**storage, ONLY).await?;
    engine.clients.forget();
    engine.tell(Happening::ConfigDelete, "config");
    Ok(warning.map(|warning| Response::default().with_warning(warning)))
}

/// What is left at OpenAI afterwards nothing here could end: admin keys that were replaced go first, and credentials
/// are not left behind.
async fn end_what_needs_it(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    config: &Config,
) -> Result<(), Error> {
    let unended = unended::refuse(engine, &**storage, config).await;
    retiring_keys::end_all(engine, storage, config).await.and(unended)
}

//! The fields of the configuration: how a write changes them, and their checks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::engine::config::configuration::Config;
use crate::engine::config::{admin_schedule, checks};
use crate::engine::time::schedule::Schedule;
use crate::engine::time::seconds;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Path, ResponseField, Shown};
use crate::logical::Operation;
use crate::openai::{AdminKey, AdminKeyId, ClientKey, Endpoint, LONGEST_EXPIRY, OrganizationId};

/// A rotated admin key lives at least as long: whoever is away for a night must not find the mount locked out.
const SHORTEST_ADMIN_KEY: Duration = Duration::from_secs(86_400);
/// Maximum length of `ca_cert`, about the size of all public roots.
const MAX_CERTIFICATES: usize = 256 * 1024;

static ADMIN_KEY: Field<String> =
    Field::new("admin_api_key", "Admin API key of the organization. It is never shown.")
        .required()
        .sensitive();
static ADMIN_KEY_ID: Field<String> = Field::new(
    "admin_api_key_id",
    "OpenAI's id of the admin key. A rotation deletes the key by this id. Default: found by the key's \
    redacted value.",
);
static ORGANIZATION: Field<String> =
    Field::new("organization_id", "OpenAI's id of the organization, such as org-123456.").required();
static ENDPOINT: Field<String> = Field::new(
    "api_endpoint",
    "URL of OpenAI's API: https, or http to this machine. A change needs admin_api_key in the same write.",
)
.default(Endpoint::DEFAULT);
static CA_CERT: Field<String> = Field::new(
    "ca_cert",
    "PEM certificates to trust besides the public roots. An added or changed certificate needs \
    admin_api_key in the same write.",
)
.default("")
.longest(MAX_CERTIFICATES);
static CLIENT_CERT: Field<String> = Field::new(
    "client_cert",
    "PEM certificate, with its chain, for an organization that demands mutual TLS. Needs client_key. Adding or changing it \
     needs admin_api_key in the same write.",
)
.default("")
.longest(MAX_CERTIFICATES);
static CLIENT_KEY: Field<String> =
    Field::new("client_key", "PEM private key of client_cert, without a passphrase. It is never shown.")
        .sensitive()
        .longest(MAX_CERTIFICATES);

/// A setting that determines the receiver of the admin key. The function is true if a change admits another receiver.
type Recipient = (&'static str, fn(&Config, &Config) -> Result<bool, Error>);

/// All such settings. A writer without the key could otherwise have the stored key sent to a host of their choice.
const RECIPIENTS: [Recipient; 3] = [
    (ENDPOINT.name(), |old, new| Ok(old.endpoint()? != new.endpoint()?)),
    (CA_CERT.name(), |old, new| {
        let (old, new) = (old.ca_cert.trim(), new.ca_cert.trim());
        Ok(old != new && !new.is_empty())
    }),
    (CLIENT_CERT.name(), |old, new| {
        let (old, new) = (old.client_cert.trim(), new.client_cert.trim());
        Ok(old != new && !new.is_empty())
    }),
];

static VERIFY: Field<bool> =
    Field::new("verify_connection", "Try the key and the organization at OpenAI before they are stored.")
        .default(true);
static PERIOD: Field<Duration> = Field::new(
    "automatic_rotation_period",
    "Time between two rotations of the admin key, at least 60s; 0 for never.",
)
.default(0)
.alias("rotation_period");
static WINDOW: Field<Duration> = Field::new(
    "automatic_rotation_window",
    "Time after its planned start within which a rotation may begin; 0 for any time.",
)
.default(0)
.alias("rotation_window");
static SCHEDULE: Field<String> = Field::new(
    "rotation_schedule",
    "Schedule of the admin key's rotation: five cron fields, in UTC. Not with a period.",
)
.default("");
static DISABLE: Field<bool> =
    Field::new("disable_automated_rotation", "Stop the automatic rotation of the admin key.").default(false);
static ADMIN_KEY_TTL: Field<Duration> = Field::new(
    "admin_key_ttl",
    "Lifetime at OpenAI of an admin key that a rotation creates. At least a day and two rotation periods; 0 for that \
     of the key before it.",
)
.default(0);
static MARGIN: Field<Duration> = Field::new(
    "key_expiry_margin",
    "Time after the end of its lease at which a key expires at OpenAI by itself.",
)
.default(60);
static MODE: Field<String> = Field::new(
    "revocation_mode",
    "strict: a revocation answers when the key is dead. queue: it answers at once, and the key is deleted \
    when OpenAI allows.",
)
.default("strict")
.allowed(&["strict", "queue"]);
static RATE: Field<i64> =
    Field::new("max_requests_per_minute", "Highest number of calls of OpenAI a minute; 0 learns it.")
        .default(0);
static QUOTA: Field<bool> =
    Field::new("quota_tracking", "Read the projects' costs once an hour, for the metrics.").default(false);
pub(in crate::engine) static FORCE: Field<bool> = Field::new(
    "force",
    "Delete the configuration even if credentials or replaced admin keys still exist at OpenAI.",
)
.default(false)
.query()
.only_on(Operation::Delete);

/// The settings in the answer of a read.
pub(super) const SHOWN: [Shown<Config>; 15] = [
    (ResponseField::of(&ADMIN_KEY_ID), |config| {
        config.admin_api_key_id.as_ref().map_or("", AdminKeyId::as_str).into()
    }),
    (ResponseField::of(&ORGANIZATION), |config| config.organization_id.as_str().into()),
    (ResponseField::of(&ENDPOINT), |config| config.api_endpoint.as_str().into()),
    (ResponseField::of(&CA_CERT), |config| config.ca_cert.as_str().into()),
    (ResponseField::of(&CLIENT_CERT), |config| config.client_cert.as_str().into()),
    (ResponseField::of(&VERIFY), |config| config.verify_connection.into()),
    (ResponseField::of(&PERIOD), |config| config.automatic_rotation_period.as_secs().into()),
    (ResponseField::of(&WINDOW), |config| config.automatic_rotation_window.as_secs().into()),
    (ResponseField::of(&SCHEDULE), |config| config.rotation_schedule.as_str().into()),
    (ResponseField::of(&DISABLE), |config| config.disable_automated_rotation.into()),
    (ResponseField::of(&ADMIN_KEY_TTL), |config| config.admin_key_ttl.as_secs().into()),
    (ResponseField::of(&MARGIN), |config| config.key_expiry_margin.as_secs().into()),
    (ResponseField::of(&MODE), |config| json!(config.revocation_mode)),
    (ResponseField::of(&RATE), |config| config.max_requests_per_minute.into()),
    (ResponseField::of(&QUOTA), |config| config.quota_tracking.into()),
];

/// Adds the fields to the path.
pub(in crate::engine) fn all(path: Path<Engine>) -> Path<Engine> {
    path.fields(&[&ADMIN_KEY, &ADMIN_KEY_ID, &ORGANIZATION, &ENDPOINT])
        .fields(&[&CA_CERT, &CLIENT_CERT, &CLIENT_KEY, &VERIFY])
        .fields(&[&PERIOD, &WINDOW, &SCHEDULE, &DISABLE, &ADMIN_KEY_TTL])
        .fields(&[&MARGIN, &MODE, &RATE, &QUOTA, &FORCE])
        .responds(Operation::Read, &SHOWN.map(|(field, _)| field))
}

impl Config {
    /// The first configuration, from the required fields. A setting that is not sent has the default of its stored form.
    pub(in crate::engine) fn first(call: &Call, now: DateTime<Utc>) -> Result<Self, Error> {
        let required = json!({
            ADMIN_KEY.name(): admin_key(&call.get(&ADMIN_KEY)?)?,
            ORGANIZATION.name(): checks::parsed::<OrganizationId>(&call.get(&ORGANIZATION)?, ORGANIZATION.name())?,
            "last_rotated": now,
        });
        serde_json::from_value(required).map_err(|error| Error::field(error.to_string()))
    }

    /// Applies the sent fields.
    pub(in crate::engine) fn change(&mut self, call: &Call, now: DateTime<Utc>) -> Result<(), Error> {
        self.change_access(call, now)?;
        self.change_schedule(call)?;
        set(&mut self.verify_connection, call.sent(&VERIFY)?);
        set(&mut self.disable_automated_rotation, call.sent(&DISABLE)?);
        set(&mut self.admin_key_ttl, call.sent(&ADMIN_KEY_TTL)?);
        set(&mut self.key_expiry_margin, call.sent(&MARGIN)?);
        set(&mut self.quota_tracking, call.sent(&QUOTA)?);
        if let Some(mode) = call.sent(&MODE)? {
            self.revocation_mode = checks::word(&mode, &MODE)?;
        }
        if let Some(rate) = call.sent(&RATE)? {
            self.max_requests_per_minute = u32::try_from(rate).map_err(|_| {
                Error::field("max_requests_per_minute must be 0 or a positive number of calls a minute")
            })?;
        }
        Ok(())
    }

    /// Applies the schedule's fields. A sent period replaces a cron expression, and the reverse.
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

    /// Applies key, organization, endpoint and certificates. A key must never go to a host that its writer did not name.
    fn change_access(&mut self, call: &Call, now: DateTime<Utc>) -> Result<(), Error> {
        let key = call.sent(&ADMIN_KEY)?.map(|key| admin_key(&key)).transpose()?;
        let was = self.clone();
        // The endpoint is stored as written, with a trailing slash if any, so that Terraform finds no difference.
        set(&mut self.api_endpoint, call.sent(&ENDPOINT)?);
        set(&mut self.ca_cert, call.sent(&CA_CERT)?);
        self.change_client_certificate(call)?;
        let endpoint = self.endpoint()?;
        if key.is_none() {
            self.refuse_another_recipient(&was)?;
        }
        if let Some(key) = key {
            self.take_key(key, now)?;
        }
        if let Some(id) = call.sent(&ORGANIZATION)? {
            self.organization_id = checks::parsed(&id, ORGANIZATION.name())?;
        }
        if endpoint != was.endpoint()? || self.organization_id != was.organization_id {
            // Another endpoint or organization has another id for the key.
            self.admin_api_key_id = None;
        }
        if let Some(id) = call.sent(&ADMIN_KEY_ID)? {
            self.admin_api_key_id = checks::optional(&id, ADMIN_KEY_ID.name())?;
        }
        Ok(())
    }

    /// A certificate without its key is of no use; an empty certificate takes its key away.
    fn change_client_certificate(&mut self, call: &Call) -> Result<(), Error> {
        set(&mut self.client_cert, call.sent(&CLIENT_CERT)?);
        match call.sent(&CLIENT_KEY)? {
            Some(key) if key.trim().is_empty() => self.client_key = None,
            Some(key) => self.client_key = Some(ClientKey::new(key)),
            None if self.client_cert.trim().is_empty() => self.client_key = None,
            None => {}
        }
        if self.client_cert.trim().is_empty() == self.client_key.is_some() {
            return Err(Error::field("client_cert and client_key must be set together, or both be empty"));
        }
        Ok(())
    }

    /// Refuses to change the receiver of the key in a write without the key.
    fn refuse_another_recipient(&self, was: &Self) -> Result<(), Error> {
        for (field, changed) in RECIPIENTS {
            if changed(was, self)? {
                return Err(Error::field(format!(
                    "{field} can only be changed with admin_api_key in the same write, because it determines the \
                     receiver of the key; if rotation made the current key, give a new one"
                )));
            }
        }
        Ok(())
    }

    /// Refuses an invalid configuration. The errors contain the field names that the call used. A write of other fields is not
    /// refused because of the times in the configuration before, which earlier releases checked less.
    pub(in crate::engine) fn check(&self, call: &Call, before: Option<&Self>) -> Result<(), Error> {
        let (period, window) = (call.name_of(&PERIOD), call.name_of(&WINDOW));
        let schedule = self.schedule_fields().schedule();
        let schedule = schedule.map_err(|error| Error::field(error.naming(period, window)))?;
        admin_schedule::check_window(self.automatic_rotation_window, window)?;
        if before.is_none_or(|before| before.times() != self.times()) {
            self.check_admin_key_ttl(schedule.as_ref())?;
        }
        if self.key_expiry_margin >= LONGEST_EXPIRY {
            return Err(Error::field("key_expiry_margin must be below one year"));
        }
        Ok(())
    }

    /// The times that are checked against each other.
    fn times(&self) -> (Duration, Duration, &str) {
        (self.admin_key_ttl, self.automatic_rotation_period, &self.rotation_schedule)
    }

    fn check_admin_key_ttl(&self, schedule: Option<&Schedule>) -> Result<(), Error> {
        if self.admin_key_ttl > LONGEST_EXPIRY {
            return Err(Error::field("admin_key_ttl must be at most one year"));
        }
        let longest_interval = schedule.map(Schedule::longest_interval).unwrap_or_default();
        let shortest = longest_interval.saturating_mul(2).max(SHORTEST_ADMIN_KEY);
        if !self.admin_key_ttl.is_zero() && self.admin_key_ttl < shortest {
            return Err(Error::field(format!(
                "admin_key_ttl must be 0 or at least two rotation periods, and at least {}",
                seconds::text(SHORTEST_ADMIN_KEY)
            )));
        }
        Ok(())
    }
}

/// True if the call sends `admin_api_key`.
pub(in crate::engine) fn sends_key(call: &Call) -> Result<bool, Error> {
    Ok(call.sent(&ADMIN_KEY)?.is_some())
}

fn set<T>(value: &mut T, sent: Option<T>) {
    if let Some(sent) = sent {
        *value = sent;
    }
}

fn admin_key(text: &str) -> Result<AdminKey, Error> {
    AdminKey::parse(text).map_err(|error| Error::field(format!("admin_api_key: {error}")))
}

//! The settings of a static role: its fields, their checks, and the changes by a write.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::Error;
use crate::engine::config::metadata::Metadata;
use crate::engine::config::project_fields::{NamedProject, PROJECT, PROJECT_ID};
use crate::engine::config::{checks, metadata, project_fields};
use crate::engine::time::schedule::Schedule;
use crate::engine::time::schedule_fields::ScheduleFields;
use crate::engine::time::seconds;
use crate::framework::{Call, Field, Path, ResponseField, Shown};
use crate::logical::Operation;
use crate::openai::{LONGEST_EXPIRY, ProjectId};

/// The settings from the user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The project's name in Vault; empty if the role gives the raw id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the role gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// First part of the names of its keys, and of the accounts that rotations create.
    pub api_key_name: String,
    /// The period or schedule of the rotation.
    #[serde(flatten)]
    pub schedule: ScheduleFields,
    /// The method of a rotation.
    #[serde(default)]
    pub rotation_method: Method,
    /// Time for which a replaced key still works; `None` for the default. Earlier releases stored a number always.
    #[serde(default = "no_grace", with = "crate::engine::time::seconds::option")]
    pub grace_period: Option<Duration>,
    /// Longest `ttl` in the answers of `static-creds`.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// The lifetime of a key at OpenAI; zero for no expiry.
    #[serde(default, with = "crate::engine::time::seconds")]
    pub key_ttl: Duration,
    /// Labels of the operator.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// The method of a rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Replaces the key; the account stays.
    #[default]
    Key,
    /// Replaces the account with its key.
    Account,
}

static KEY_NAME: Field<String> = Field::new(
    "api_key_name",
    "First part of the keys' names at OpenAI, or of the accounts' names with rotation_method=account. The \
    rest of each name is unique.",
)
.default("vault-static-key");
static PERIOD: Field<Duration> = Field::new(
    "rotation_period",
    "Time between two rotations, at least 60s; 0 for rotation by hand only. Not with a schedule.",
)
.default(86_400);
static SCHEDULE: Field<String> = Field::new(
    "rotation_schedule",
    "Schedule of the rotation: five cron fields, in UTC. It replaces the period.",
)
.default("");
static WINDOW: Field<Duration> = Field::new(
    "rotation_window",
    "Time after a scheduled start within which a rotation may begin, at least 2m; 0 for any time.",
)
.default(0);
static METHOD: Field<String> = Field::new(
    "rotation_method",
    "key: a rotation creates a new key on the same account. account: it creates a new account, and deletes \
    the old account if a rotation created it.",
)
.default("key")
.allowed(&["key", "account"]);
static GRACE: Field<Duration> = Field::new(
    "grace_period",
    "Time for which a replaced key still works; 0 ends it with the rotation. At most the shortest time \
    between two rotations. Default: 10m, or a tenth of that shortest time if it is less; 0 after a rotation by \
    hand. At most twenty replaced keys are kept: another rotation ends the oldest early.",
)
.nullable();
static TTL: Field<Duration> =
    Field::new("ttl", "Longest time until clients should read again.").default(86_400);
static KEY_TTL: Field<Duration> = Field::new(
    "key_ttl",
    "Time after its creation at which a key expires at OpenAI by itself; 0 for never. At least 10m more \
    than the time between rotations. It applies from the next rotation on. An outage of Vault or OpenAI \
    that lasts longer than the difference leaves readers with a dead key.",
)
.default(0);

pub(super) static ACCOUNT: Field<String> = Field::new(
    "service_account_id",
    "OpenAI's id of the service account. It cannot be changed later; rotation_method=account replaces it.",
)
.required();

/// The settings in the answer of a read, except `grace_period`, which has a computed default.
pub(super) const SHOWN: [Shown<Settings>; 10] = [
    (ResponseField::of(&PROJECT), |settings| settings.project.as_str().into()),
    (ResponseField::of(&PROJECT_ID), |settings| {
        settings.project_id.as_ref().map_or("", ProjectId::as_str).into()
    }),
    (ResponseField::of(&KEY_NAME), |settings| settings.api_key_name.as_str().into()),
    (ResponseField::of(&PERIOD), |settings| whole(settings.schedule.rotation_period)),
    (ResponseField::of(&SCHEDULE), |settings| {
        settings.schedule.rotation_schedule.as_deref().unwrap_or_default().into()
    }),
    (ResponseField::of(&WINDOW), |settings| whole(settings.schedule.rotation_window)),
    (ResponseField::of(&METHOD), |settings| json!(settings.rotation_method)),
    (ResponseField::of(&TTL), |settings| settings.ttl.as_secs().into()),
    (ResponseField::of(&KEY_TTL), |settings| settings.key_ttl.as_secs().into()),
    (metadata::ANSWER, |settings| metadata::shown(&settings.metadata)),
];

fn whole(time: Option<Duration>) -> Value {
    time.unwrap_or_default().as_secs().into()
}

/// Time by which a key's lifetime has to exceed the time between rotations. A failed rotation is retried in this time.
pub(super) const ROOM_TO_RETRY: Duration = Duration::from_secs(600);

/// Longest default grace period of a rotation by the schedule.
const DEFAULT_GRACE: Duration = Duration::from_secs(600);

/// Earlier releases stored no `grace_period` for none.
#[expect(clippy::unnecessary_wraps, reason = "serde needs the field's type")]
fn no_grace() -> Option<Duration> {
    Some(Duration::ZERO)
}

/// Adds the fields to the path.
pub(super) fn fields<E: Send + Sync + 'static>(path: Path<E>) -> Path<E> {
    metadata::all(project_fields::all(path))
        .fields(&[&KEY_NAME, &PERIOD, &SCHEDULE, &WINDOW, &METHOD, &GRACE, &TTL, &KEY_TTL])
        .responds(Operation::Read, &SHOWN.map(|(field, _)| field))
}

impl Settings {
    /// The settings of a new role: the sent ones, and defaults.
    pub fn first(call: &Call) -> Result<Self, Error> {
        let NamedProject { project, project_id } = project_fields::named(call, None)?;
        let mut schedule = sent_schedule(call)?;
        if schedule.rotation_schedule.as_ref().is_none_or(|text| text.trim().is_empty()) {
            schedule.rotation_period = Some(call.get(&PERIOD)?);
        }
        let settings = Self {
            project,
            project_id,
            api_key_name: call.get(&KEY_NAME)?,
            schedule,
            rotation_method: checks::word(&call.get(&METHOD)?, &METHOD)?,
            grace_period: call.sent(&GRACE)?,
            ttl: call.get(&TTL)?,
            key_ttl: call.get(&KEY_TTL)?,
            metadata: metadata::changed_by(call, None)?,
        };
        settings.check()?;
        settings.check_times()?;
        Ok(settings)
    }

    /// These settings with the changes that the call sends.
    pub fn changed_by(&self, call: &Call) -> Result<Self, Error> {
        let NamedProject { project, project_id } = project_fields::named(call, Some(&self.named_project()))?;
        let method = call.sent(&METHOD)?.map(|sent| checks::word(&sent, &METHOD)).transpose()?;
        let schedule = self.schedule.clone().updated(sent_schedule(call)?).map_err(of_schedule)?;
        let settings = Self {
            project,
            project_id,
            api_key_name: call.sent(&KEY_NAME)?.unwrap_or_else(|| self.api_key_name.clone()),
            schedule,
            rotation_method: method.unwrap_or(self.rotation_method),
            grace_period: self.changed_grace(call)?,
            ttl: call.sent(&TTL)?.unwrap_or(self.ttl),
            key_ttl: call.sent(&KEY_TTL)?.unwrap_or(self.key_ttl),
            metadata: metadata::changed_by(call, Some(&self.metadata))?,
        };
        settings.check()?;
        // A write of other fields is not refused because of stored times.
        if settings.times() != self.times() {
            settings.check_times()?;
        }
        Ok(settings)
    }

    /// The project's name or id in the settings.
    pub fn named_project(&self) -> NamedProject {
        NamedProject { project: self.project.clone(), project_id: self.project_id.clone() }
    }

    /// The schedule of the rotation; `None` for rotation by hand only.
    pub fn schedule(&self) -> Result<Option<Schedule>, Error> {
        self.schedule.schedule().map_err(of_schedule)
    }

    /// Time for which a key still works after a rotation by the timetable.
    pub fn grace(&self) -> Result<Duration, Error> {
        Ok(match (self.grace_period, self.schedule()?) {
            (Some(grace), _) => grace,
            (None, Some(schedule)) => {
                DEFAULT_GRACE.min(Duration::from_secs(schedule.shortest_interval().as_secs() / 10))
            }
            (None, None) => Duration::ZERO,
        })
    }

    /// The same after a rotation by hand, which often follows a leak.
    pub fn grace_by_hand(&self) -> Duration {
        self.grace_period.unwrap_or_default()
    }

    /// The default stays the default if a write sends the value that a read answered.
    fn changed_grace(&self, call: &Call) -> Result<Option<Duration>, Error> {
        match call.sent(&GRACE)? {
            Some(sent) if self.grace_period.is_none() && sent == self.grace()? => Ok(None),
            Some(sent) => Ok(Some(sent)),
            None if call.takes_away(&GRACE) => Ok(None),
            None => Ok(self.grace_period),
        }
    }

    /// Warns of outages if keys expire by themselves.
    pub(super) fn warn_of_outages(&self) -> Result<Option<String>, Error> {
        let Some(schedule) = self.schedule()?.filter(|_| !self.key_ttl.is_zero()) else { return Ok(None) };
        let room = self.key_ttl.saturating_sub(schedule.longest_interval());
        Ok(Some(format!(
            "with key_ttl={} a key expires at OpenAI whether it was rotated or not: an outage of more than {} leaves \
             readers with a dead key",
            seconds::text(self.key_ttl),
            seconds::text(room)
        )))
    }

    /// The settings whose values depend on each other.
    fn times(&self) -> (Option<Duration>, Duration, &ScheduleFields) {
        (self.grace_period, self.key_ttl, &self.schedule)
    }

    fn check(&self) -> Result<(), Error> {
        if self.api_key_name.trim().is_empty() {
            return Err(Error::field("api_key_name must not be empty"));
        }
        if self.ttl.is_zero() {
            return Err(Error::field("ttl must be at least 1s"));
        }
        self.schedule().map(drop)
    }

    /// Checks the times against each other. A grace period above the time between rotations would accumulate live keys. A
    /// key must not expire before its replacement.
    fn check_times(&self) -> Result<(), Error> {
        check_grace(self.grace_by_hand())?;
        if self.key_ttl > LONGEST_EXPIRY {
            return Err(Error::field("key_ttl must not be above one year (8760h)"));
        }
        match self.schedule()? {
            Some(schedule) => self.check_times_with(&schedule),
            None if self.key_ttl.is_zero() => Ok(()),
            None => Err(Error::field(
                "key_ttl needs rotation_period or rotation_schedule: nothing else replaces the key before \
                it expires",
            )),
        }
    }

    fn check_times_with(&self, schedule: &Schedule) -> Result<(), Error> {
        let (shortest, longest) = (schedule.shortest_interval(), schedule.longest_interval());
        if let Some(grace) = self.grace_period.filter(|grace| *grace > shortest) {
            return Err(Error::field(format!(
                "grace_period must not be above the time between rotations: {} is more than {}",
                seconds::text(grace),
                seconds::text(shortest)
            )));
        }
        let least = longest.saturating_add(ROOM_TO_RETRY);
        if !self.key_ttl.is_zero() && self.key_ttl < least {
            return Err(Error::field(format!(
                "key_ttl must be at least {} more than the time between rotations, or the key ends before it is \
                 replaced: {} is less than {}",
                seconds::text(ROOM_TO_RETRY),
                seconds::text(self.key_ttl),
                seconds::text(least)
            )));
        }
        Ok(())
    }
}

/// Refuses a grace period above a year, OpenAI's longest expiry.
pub(in crate::engine) fn check_grace(grace: Duration) -> Result<(), Error> {
    if grace > LONGEST_EXPIRY {
        return Err(Error::field("grace_period must not be above one year (8760h)"));
    }
    Ok(())
}

fn sent_schedule(call: &Call) -> Result<ScheduleFields, Error> {
    Ok(ScheduleFields {
        rotation_period: call.sent(&PERIOD)?,
        rotation_schedule: call.sent(&SCHEDULE)?,
        rotation_window: call.sent(&WINDOW)?,
    })
}

fn of_schedule(error: crate::engine::time::schedule_fields::ScheduleError) -> Error {
    Error::field(error.to_string())
}

//! A window: up to 10 seconds in which one process makes credentials for one [`Triple`]. What it stores, and what the
//! names of its credentials say.
//!
//! A name ends in `-<stamp>-<tag>`. The [`Stamp`] is the minute in which the credential ends and the window's id, so
//! the place of its ledger record and its window are known from the name alone.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::creds::issuer::FORGOTTEN_AFTER;
use crate::engine::naming::names::MountTag;
use crate::framework::{WAL_PREFIX, WalKind};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// The write-ahead entry of a window. It has no least age: no clock that people set decides when it is looked at.
pub(in crate::engine) static WINDOW: WalKind<Window> =
    WalKind::new("window", Duration::ZERO).forgotten_after(FORGOTTEN_AFTER);

/// Where credentials are made. Those of one triple share windows.
#[expect(clippy::struct_field_names, reason = "they are stored by these names")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Triple {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The project.
    pub project_id: ProjectId,
    /// The account that keys are made on; none if each credential is an account.
    pub service_account_id: Option<ServiceAccountId>,
}

/// A window as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Where its credentials are made.
    #[serde(flatten)]
    pub triple: Triple,
    /// Gives the key of its entry and its [`WindowId`].
    pub id: Uuid,
    /// When it was opened. By this alone nothing is ended: an account that cannot be of this window gets a record.
    pub opened: DateTime<Utc>,
}

/// A window's id as names have it. Two windows may have the same, years apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowId(u64);

/// What stands before the tag in a credential's name: 5 digits of the minute of its end, 5 of its window's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    minute: u64,
    /// The window that it was made in.
    pub window: WindowId,
}

/// Digits of either number.
const WIDTH: usize = 5;
/// How many numbers they can tell.
const NUMBERS: u64 = 36_u64.pow(WIDTH as u32);

impl Window {
    /// The key of its write-ahead entry.
    pub(in crate::engine) fn key(&self) -> String {
        format!("{WAL_PREFIX}{}", self.id)
    }

    pub(in crate::engine) fn window_id(&self) -> WindowId {
        WindowId::of(self.id)
    }

    /// What a credential's name ends in that ends then.
    pub(in crate::engine) fn stamp(&self, ends: DateTime<Utc>) -> Stamp {
        let minute = u64::try_from(ends.timestamp()).unwrap_or_default() / 60;
        Stamp { minute: minute % NUMBERS, window: self.window_id() }
    }
}

impl WindowId {
    pub(super) fn of(id: Uuid) -> Self {
        Self((id.as_u128() % u128::from(NUMBERS)) as u64)
    }

    /// That of an entry, by its key without the prefix. An entry of another kind gives an id that is nobody's.
    pub(super) fn of_entry(name: &str) -> Option<Self> {
        name.parse().ok().map(Self::of)
    }
}

impl Stamp {
    /// The stamp of a name that the mount with this tag made for a credential.
    pub(in crate::engine) fn of(name: &str, tag: &MountTag) -> Option<Self> {
        if !tag.owns(name) {
            return None;
        }
        let front = name.strip_suffix(tag.as_str())?.strip_suffix('-')?;
        let (front, stamp) = front.split_at_checked(front.len().checked_sub(2 * WIDTH)?)?;
        if !front.ends_with('-') {
            return None;
        }
        let (minute, window) = stamp.split_at_checked(WIDTH)?;
        Some(Self { minute: number(minute)?, window: WindowId(number(window)?) })
    }

    /// Whether a credential made then can have this stamp, and is not over now. What ends in ten digits need not be one.
    pub(super) fn fits(self, created_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let ends = self.ends();
        ends > now && ends > created_at - TimeDelta::hours(1) && ends < created_at + FORGOTTEN_AFTER
    }

    /// When the minute begins in which the credential ends.
    pub(super) fn ends(self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(self.minute.cast_signed() * 60)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", digits(self.minute), digits(self.window.0))
    }
}

/// The number in base 36, in [`WIDTH`] digits.
fn digits(mut number: u64) -> String {
    let mut digits = [0; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    digits.map(char::from).iter().collect()
}

fn number(digits: &str) -> Option<u64> {
    let fits = digits.bytes().all(|digit| digit.is_ascii_digit() || digit.is_ascii_lowercase());
    u64::from_str_radix(digits, 36).ok().filter(|_| fits)
}

//! The stored form of a creation window, and the part of a credential's name that refers to a window.
//!
//! In a window one process creates credentials for one [`Target`]. Requests may join a window for 10 seconds.
//!
//! The name of a credential ends in `-<stamp>-<tag>`. The [`Stamp`] holds the minute in which the credential ends, and
//! the window's id. So the name alone gives the credential's window and the place of its ledger record.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::accounts::making::FORGOTTEN_AFTER;
use crate::engine::naming::names::MountTag;
use crate::framework::{WAL_PREFIX, WalKind};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// The write-ahead entry of a window. The kind has no minimum age: `framework` measures ages by the wall clock, and
/// `recovery.rs` measures its own by the monotonic clock.
pub(in crate::engine) static WINDOW: WalKind<Window> =
    WalKind::new("window", Duration::ZERO).forgotten_after(FORGOTTEN_AFTER);

/// The organization, the project and perhaps the account in which credentials are created. Credentials of one target share
/// windows.
#[expect(clippy::struct_field_names, reason = "the names of the stored fields")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Id of the organization.
    pub organization_id: OrganizationId,
    /// Id of the project.
    pub project_id: ProjectId,
    /// The account that keys are created on; `None` if each credential is an account of its own.
    pub service_account_id: Option<ServiceAccountId>,
}

/// A stored window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The target of its credentials.
    #[serde(flatten)]
    pub target: Target,
    /// Determines the key of the entry, and the [`WindowId`].
    pub id: Uuid,
    /// Time of the last opening, by the wall clock. No deletion depends on this time alone: an account too old or too
    /// young for the window gets a ledger record instead.
    pub opened: DateTime<Utc>,
}

/// A window's id in the names of its credentials. Two windows may share an id: in different clusters, or after
/// the first entry is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowId(u64);

/// The part before the tag in a credential's name: 5 digits for the minute of its end, 5 for its window's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    minute: u64,
    /// Window in which the credential was created.
    pub window: WindowId,
}

/// Number of digits of the minute, and of the id.
const DIGITS: usize = 5;
/// Count of the numbers with that many digits in base 36.
const MODULUS: u64 = 36_u64.pow(DIGITS as u32);

impl Window {
    /// Storage key of the write-ahead entry.
    pub(in crate::engine) fn key(&self) -> String {
        format!("{WAL_PREFIX}{}", self.id)
    }

    pub(in crate::engine) fn window_id(&self) -> WindowId {
        WindowId::of(self.id)
    }

    /// The stamp of a credential of this window that ends at `end`.
    pub(in crate::engine) fn stamp(&self, end: DateTime<Utc>) -> Stamp {
        let minute = u64::try_from(end.timestamp()).unwrap_or_default() / 60;
        Stamp { minute: minute % MODULUS, window: self.window_id() }
    }
}

impl WindowId {
    pub(super) fn of(id: Uuid) -> Self {
        Self((id.as_u128() % u128::from(MODULUS)) as u64)
    }

    /// The id that belongs to a write-ahead entry, whose key without the prefix is `name`. The id of another kind of
    /// entry matches no window.
    pub(in crate::engine) fn of_entry(name: &str) -> Option<Self> {
        name.parse().ok().map(Self::of)
    }
}

impl Stamp {
    /// The stamp in a credential's name. `None` if the mount with this tag created no credential of this name.
    pub(in crate::engine) fn of(name: &str, tag: &MountTag) -> Option<Self> {
        if !tag.owns(name) {
            return None;
        }
        let front = name.strip_suffix(tag.as_str())?.strip_suffix('-')?;
        let (front, stamp) = front.split_at_checked(front.len().checked_sub(2 * DIGITS)?)?;
        if !front.ends_with('-') {
            return None;
        }
        let (minute, window) = stamp.split_at_checked(DIGITS)?;
        Some(Self { minute: number(minute)?, window: WindowId(number(window)?) })
    }

    /// True if a credential created at `created_at` can have this stamp and has not ended yet. Other names may end in
    /// ten digits by chance.
    pub(super) fn is_plausible(self, created_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let end = self.end();
        // OpenAI may send any time of the calendar, so nothing is added to its time. The hour allows for clocks that
        // differ.
        end > now && created_at < end + TimeDelta::hours(1) && created_at > end - FORGOTTEN_AFTER
    }

    /// Start of the minute in which the credential ends.
    pub(in crate::engine) fn end(self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(self.minute.cast_signed() * 60)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", digits(self.minute), digits(self.window.0))
    }
}

/// The number in base 36, with [`DIGITS`] digits.
fn digits(mut number: u64) -> String {
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    digits.map(char::from).iter().collect()
}

fn number(digits: &str) -> Option<u64> {
    let is_base_36 = digits.bytes().all(|digit| digit.is_ascii_digit() || digit.is_ascii_lowercase());
    u64::from_str_radix(digits, 36).ok().filter(|_| is_base_36)
}

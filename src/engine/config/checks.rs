//! Checks of fields that roles, static roles and library sets share.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{DeserializeOwned, IntoDeserializer as _};

use crate::engine::Error;
use crate::engine::time::seconds;
use crate::framework::{AnyField, FieldInfo};
use crate::openai::LONGEST_EXPIRY;

/// Checks `ttl` and `max_ttl` against each other and against OpenAI's limit.
pub(in crate::engine) fn ttls(ttl: Duration, max_ttl: Duration) -> Result<(), Error> {
    if ttl > max_ttl {
        return Err(Error::field(format!(
            "ttl must not be above max_ttl: {} is more than {}",
            seconds::text(ttl),
            seconds::text(max_ttl)
        )));
    }
    if max_ttl > LONGEST_EXPIRY {
        return Err(Error::field(
            "max_ttl must not be above one year (8760h), the longest that OpenAI lets a key live",
        ));
    }
    Ok(())
}

/// Checks the lease duration that a caller requests. `owner`, a role or library set, sets the limit.
pub(in crate::engine) fn check_requested_ttl(
    ttl: Duration,
    max_ttl: Duration,
    owner: &str,
) -> Result<(), Error> {
    if ttl.is_zero() {
        return Err(Error::field("ttl must be at least 1s"));
    }
    if ttl > max_ttl {
        return Err(Error::field(format!(
            "ttl must not be above the {owner}'s max_ttl: {} is more than {}",
            seconds::text(ttl),
            seconds::text(max_ttl)
        )));
    }
    Ok(())
}

/// A warning if the mount's maximum lease is shorter than the value of this field.
pub(in crate::engine) fn warn_above_mount_limit(
    field: &str,
    time: Duration,
    limit: Duration,
) -> Option<String> {
    (time > limit).then(|| {
        format!(
            "{field} is {}, but the mount's maximum is {}: no lease is longer than the mount's maximum",
            seconds::text(time),
            seconds::text(limit)
        )
    })
}

/// The value of an optional field; `None` if empty.
pub(in crate::engine) fn optional<T: FromStr<Err: Display>>(
    text: &str,
    field: &str,
) -> Result<Option<T>, Error> {
    if text.is_empty() { Ok(None) } else { parsed(text, field).map(Some) }
}

/// The value of a field whose allowed words are the values of `T` in storage.
pub(in crate::engine) fn word<T: DeserializeOwned>(text: &str, field: &dyn AnyField) -> Result<T, Error> {
    T::deserialize(text.into_deserializer()).map_err(|_: serde::de::value::Error| {
        let FieldInfo { name, allowed, .. } = field.info();
        Error::field(format!("{name} must be {}, not {text:?}", allowed.join(" or ")))
    })
}

/// The value of a field.
pub(in crate::engine) fn parsed<T: FromStr<Err: Display>>(text: &str, field: &str) -> Result<T, Error> {
    text.parse().map_err(|error| Error::field(format!("{field}: {error}")))
}

//! Authentication: the Admin API needs an admin key, every other endpoint needs a live key of a service account.

use super::call::Call;
use super::id::redacted;
use super::refusal::Refusal;
use super::world::{World, live};

/// Kind of key that an endpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An admin key.
    Admin,
    /// A key of a service account.
    Account,
}

impl Access {
    /// Authenticates the call and records the use of its key.
    pub fn check(self, world: &mut World, call: &Call) -> Result<(), Refusal> {
        let sent = call.bearer().ok_or_else(Refusal::no_key)?;
        let now = world.now();
        let admin = world.admin_keys.values_mut().find(|key| key.value == sent && live(key.expires_at, now));
        let account = world.by_value.get(sent).and_then(|serial| world.keys.get_mut(serial));
        let account = account.filter(|key| live(key.expires_at, now));
        let exactly = world.clock.now();
        if self == Self::Account && account.is_none() {
            // A key that was deleted a moment ago still works.
            let mut recently_deleted = world.recently_deleted_keys.visible(exactly);
            if recently_deleted.any(|(_, key)| key.value == sent && live(key.expires_at, now)) {
                return Ok(());
            }
        }
        let last_used_at = match (self, admin, account) {
            (Self::Admin, Some(key), _) if key.reads_only && call.method != "GET" => {
                return Err(Refusal::missing_scope("api.management.write"));
            }
            (Self::Admin, Some(key), _) => &mut key.last_used_at,
            (Self::Account, _, Some(key)) => &mut key.last_used_at,
            (Self::Admin, None, Some(_)) => return Err(Refusal::missing_scope("api.management.read")),
            (Self::Account, Some(_), None) => return Err(Refusal::missing_scope("api.model.read")),
            (_, None, None) => return Err(Refusal::wrong_key(&redacted(sent))),
        };
        *last_used_at = Some(now);
        match &call.organization {
            Some(organization) if *organization != world.organization => Err(Refusal::wrong_organization()),
            _ => Ok(()),
        }
    }
}

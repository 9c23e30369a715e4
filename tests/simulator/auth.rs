//! Authentication: the Admin API needs an admin key, every other endpoint a live key or access token of a service
//! account. The token exchange needs neither.

use super::call::Call;
use super::federation::AccessToken;
use super::id::redacted;
use super::refusal::Refusal;
use super::world::{World, live};

/// Kind of key that an endpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An admin key.
    Admin,
    /// A key of a service account, or an access token with this permission.
    Account(&'static str),
    /// A key of a service account. Access tokens are refused.
    KeyOfAccount,
    /// No key.
    Anybody,
}

impl Access {
    /// Authenticates the call and records the use of its key.
    pub fn check(self, world: &mut World, call: &Call) -> Result<(), Refusal> {
        if self == Self::Anybody {
            return Ok(());
        }
        let sent = call.bearer().ok_or_else(Refusal::no_key)?;
        let now = world.now();
        if let Some(token) = world.federated.tokens.get(sent) {
            return self.check_token(world, token);
        }
        let admin = world.admin_keys.values_mut().find(|key| key.value == sent && live(key.expires_at, now));
        let account = world.by_value.get(sent).and_then(|serial| world.keys.get_mut(serial));
        let account = account.filter(|key| live(key.expires_at, now));
        let exactly = world.clock.now();
        if self != Self::Admin && account.is_none() {
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
            (Self::Account(_) | Self::KeyOfAccount, _, Some(key)) => &mut key.last_used_at,
            (Self::Admin, None, Some(_)) => return Err(Refusal::missing_scope("api.management.read")),
            (Self::Account(_) | Self::KeyOfAccount, Some(_), None) => {
                return Err(Refusal::missing_scope("api.model.read"));
            }
            (Self::Anybody, _, _) => return Ok(()),
            (_, None, None) => return Err(Refusal::wrong_key(&redacted(sent))),
        };
        *last_used_at = Some(now);
        match &call.organization {
            Some(organization) if *organization != world.organization => Err(Refusal::wrong_organization()),
            _ => Ok(()),
        }
    }

    /// Access tokens act as their account, within the permissions of their rule.
    fn check_token(self, world: &World, token: &AccessToken) -> Result<(), Refusal> {
        let Self::Account(scope) = self else {
            return Err(Refusal::forbidden("Access tokens of workload identities are not accepted here."));
        };
        if token.expires_at <= world.now() {
            return Err(Refusal::wrong_key("the access token has expired"));
        }
        let account = world.accounts.values().find(|one| one.id == token.account);
        let account = account.ok_or_else(|| Refusal::wrong_key("the service account does not exist"))?;
        world.active_project(&account.project)?;
        let is_allowed = token.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|one| one == scope));
        if !is_allowed || account.role == "none" {
            return Err(Refusal::missing_scope(scope));
        }
        Ok(())
    }
}

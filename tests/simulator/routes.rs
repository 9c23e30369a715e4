//! The endpoints with their query parameters and handlers.

use serde_json::Value;

use super::auth::Access;
use super::call::Call;
use super::refusal::Refusal;
use super::world::World;
use super::{accounts, admin_keys, costs, federation, keys, models, projects, token_exchange};

/// Names of the endpoints for counters, faults and limits.
#[allow(missing_docs, reason = "the values say it")]
pub mod endpoint {
    pub const LIST_ADMIN_KEYS: &str = "GET /organization/admin_api_keys";
    pub const CREATE_ADMIN_KEY: &str = "POST /organization/admin_api_keys";
    pub const READ_ADMIN_KEY: &str = "GET /organization/admin_api_keys/{key_id}";
    pub const DELETE_ADMIN_KEY: &str = "DELETE /organization/admin_api_keys/{key_id}";
    pub const LIST_PROJECTS: &str = "GET /organization/projects";
    pub const CREATE_PROJECT: &str = "POST /organization/projects";
    pub const READ_PROJECT: &str = "GET /organization/projects/{project_id}";
    pub const UPDATE_PROJECT: &str = "POST /organization/projects/{project_id}";
    pub const ARCHIVE_PROJECT: &str = "POST /organization/projects/{project_id}/archive";
    pub const LIST_RATE_LIMITS: &str = "GET /organization/projects/{project_id}/rate_limits";
    pub const LIST_KEYS: &str = "GET /organization/projects/{project_id}/api_keys";
    pub const READ_KEY: &str = "GET /organization/projects/{project_id}/api_keys/{api_key_id}";
    pub const UPDATE_KEY: &str = "POST /organization/projects/{project_id}/api_keys/{api_key_id}";
    pub const DELETE_KEY: &str = "DELETE /organization/projects/{project_id}/api_keys/{api_key_id}";
    pub const LIST_ACCOUNTS: &str = "GET /organization/projects/{project_id}/service_accounts";
    pub const CREATE_ACCOUNT: &str = "POST /organization/projects/{project_id}/service_accounts";
    pub const READ_ACCOUNT: &str =
        "GET /organization/projects/{project_id}/service_accounts/{service_account_id}";
    pub const UPDATE_ACCOUNT: &str =
        "POST /organization/projects/{project_id}/service_accounts/{service_account_id}";
    pub const DELETE_ACCOUNT: &str =
        "DELETE /organization/projects/{project_id}/service_accounts/{service_account_id}";
    pub const CREATE_KEY: &str =
        "POST /organization/projects/{project_id}/service_accounts/{service_account_id}/api_keys";
    pub const READ_COSTS: &str = "GET /organization/costs";
    pub const LIST_MODELS: &str = "GET /models";
    pub const DELETE_MODEL: &str = "DELETE /models/{model}";
    pub const CREATE_PROVIDER: &str = "POST /organization/workload_identity_providers";
    pub const LIST_PROVIDERS: &str = "GET /organization/workload_identity_providers";
    pub const READ_PROVIDER: &str =
        "GET /organization/workload_identity_providers/{workload_identity_provider_id}";
    pub const UPDATE_PROVIDER: &str =
        "POST /organization/workload_identity_providers/{workload_identity_provider_id}";
    pub const DELETE_PROVIDER: &str =
        "DELETE /organization/workload_identity_providers/{workload_identity_provider_id}";
    pub const CREATE_RULE: &str =
        "POST /organization/workload_identity_providers/{workload_identity_provider_id}/federation_rules";
    pub const LIST_RULES: &str =
        "GET /organization/workload_identity_providers/{workload_identity_provider_id}/federation_rules";
    pub const READ_RULE: &str = "GET /organization/workload_identity_providers/{workload_identity_provider_id}/federation_rules/{workload_identity_federation_rule_id}";
    pub const UPDATE_RULE: &str = "POST /organization/workload_identity_providers/{workload_identity_provider_id}/federation_rules/{workload_identity_federation_rule_id}";
    pub const DELETE_RULE: &str = "DELETE /organization/workload_identity_providers/{workload_identity_provider_id}/federation_rules/{workload_identity_federation_rule_id}";
    /// The only path outside `/v1`.
    pub const EXCHANGE_TOKEN: &str = "POST /oauth/token";
    /// Counter for calls to no endpoint.
    pub const NONE: &str = "none";
}

/// One endpoint.
#[derive(Debug)]
pub struct Route {
    /// Method and path pattern, as in [`endpoint`].
    pub name: &'static str,
    access: Access,
    query: &'static [&'static str],
    answer: fn(&mut World, &Call) -> Result<Value, Refusal>,
}

/// Result of routing.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    Route(&'static Route),
    /// The path exists for other methods.
    WrongMethod,
    /// The path does not exist.
    Nothing,
}

const PAGE: &[&str] = &["after", "limit"];

static ROUTES: [Route; 34] = [
    admin(endpoint::LIST_ADMIN_KEYS, &["after", "limit", "order"], admin_keys::list),
    admin(endpoint::CREATE_ADMIN_KEY, &[], admin_keys::create),
    admin(endpoint::READ_ADMIN_KEY, &[], admin_keys::read),
    admin(endpoint::DELETE_ADMIN_KEY, &[], admin_keys::delete),
    admin(endpoint::LIST_PROJECTS, &["after", "limit", "include_archived"], projects::list),
    admin(endpoint::CREATE_PROJECT, &[], projects::create),
    admin(endpoint::READ_PROJECT, &[], projects::read),
    admin(endpoint::UPDATE_PROJECT, &[], projects::update),
    admin(endpoint::ARCHIVE_PROJECT, &[], projects::archive),
    admin(endpoint::LIST_RATE_LIMITS, &["after", "before", "limit"], projects::rate_limits),
    admin(endpoint::LIST_KEYS, &["after", "limit", "owner_project_access"], keys::list),
    admin(endpoint::READ_KEY, &[], keys::read),
    admin(endpoint::UPDATE_KEY, &[], keys::update),
    admin(endpoint::DELETE_KEY, &[], keys::delete),
    admin(endpoint::LIST_ACCOUNTS, PAGE, accounts::list),
    admin(endpoint::CREATE_ACCOUNT, &[], accounts::create),
    admin(endpoint::READ_ACCOUNT, &[], accounts::read),
    admin(endpoint::UPDATE_ACCOUNT, &[], accounts::update),
    admin(endpoint::DELETE_ACCOUNT, &[], accounts::delete),
    admin(endpoint::CREATE_KEY, &[], keys::create),
    admin(endpoint::READ_COSTS, COSTS, costs::read),
    Route {
        name: endpoint::LIST_MODELS,
        access: Access::Account("api.model.read"),
        query: &[],
        answer: models::list,
    },
    Route { name: endpoint::DELETE_MODEL, access: Access::KeyOfAccount, query: &[], answer: models::delete },
    Route {
        name: endpoint::EXCHANGE_TOKEN,
        access: Access::Anybody,
        query: &[],
        answer: token_exchange::exchange,
    },
    admin(endpoint::CREATE_PROVIDER, &[], federation::create_provider),
    admin(endpoint::LIST_PROVIDERS, &["after", "limit", "order"], federation::list_providers),
    admin(endpoint::READ_PROVIDER, &[], federation::read_provider),
    admin(endpoint::UPDATE_PROVIDER, &[], federation::update_provider),
    admin(endpoint::DELETE_PROVIDER, &[], federation::delete_provider),
    admin(endpoint::CREATE_RULE, &[], federation::create_rule),
    admin(endpoint::LIST_RULES, &["after", "limit", "order", "service_account_id"], federation::list_rules),
    admin(endpoint::READ_RULE, &[], federation::read_rule),
    admin(endpoint::UPDATE_RULE, &[], federation::update_rule),
    admin(endpoint::DELETE_RULE, &[], federation::delete_rule),
];

const COSTS: &[&str] = &[
    "start_time",
    "end_time",
    "bucket_width",
    "project_ids",
    "api_key_ids",
    "line_items",
    "group_by",
    "limit",
    "page",
];

const fn admin(
    name: &'static str,
    query: &'static [&'static str],
    answer: fn(&mut World, &Call) -> Result<Value, Refusal>,
) -> Route {
    Route { name, access: Access::Admin, query, answer }
}

impl Found {
    /// Finds the endpoint and stores the ids from the path.
    pub fn by(call: &mut Call) -> Self {
        let mut found = Self::Nothing;
        for route in &ROUTES {
            let (method, pattern) = route.name.split_once(' ').unwrap_or(("", route.name));
            if !matches(pattern, &call.path) {
                continue;
            }
            if method == call.method {
                call.ids = captured(pattern, &call.path);
                return Self::Route(route);
            }
            found = Self::WrongMethod;
        }
        found
    }

    /// Counter name of the endpoint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route(route) => route.name,
            Self::WrongMethod | Self::Nothing => endpoint::NONE,
        }
    }

    /// Does the work of the call.
    pub fn answer(self, world: &mut World, call: &Call) -> Result<Value, Refusal> {
        let path = format!("/v1{}", call.path);
        match self {
            Self::Nothing => Err(Refusal::no_such_url(&call.method, &path)),
            Self::WrongMethod => Err(Refusal::wrong_method(&call.method, &path)),
            Self::Route(route) => {
                route.access.check(world, call)?;
                call.expect_query(route.query)?;
                (route.answer)(world, call)
            }
        }
    }
}

/// True if the path matches the pattern. `*` and `{name}` match one segment, `**` matches all remaining segments.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return true;
        }
        match segments.next() {
            Some(sent) if wanted == sent || (!sent.is_empty() && any(wanted)) => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

fn any(wanted: &str) -> bool {
    wanted == "*" || wanted.starts_with('{')
}

fn captured(pattern: &'static str, path: &str) -> Vec<(&'static str, String)> {
    let named = |(wanted, sent): (&'static str, &str)| {
        let name = wanted.strip_prefix('{')?.strip_suffix('}')?;
        Some((name, sent.to_owned()))
    };
    pattern.split('/').zip(path.split('/')).filter_map(named).collect()
}

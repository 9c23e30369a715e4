//! Which endpoints there are, what each takes in its query, and who answers.

use serde_json::Value;

use super::auth::Access;
use super::call::Call;
use super::refusal::Refusal;
use super::world::World;
use super::{accounts, admin_keys, costs, keys, models, projects};

/// The endpoints by name: what counters, faults and limits call them.
pub mod endpoint {
    /// Lists admin keys.
    pub const LIST_ADMIN_KEYS: &str = "GET /organization/admin_api_keys";
    /// Makes an admin key.
    pub const CREATE_ADMIN_KEY: &str = "POST /organization/admin_api_keys";
    /// Reads an admin key.
    pub const READ_ADMIN_KEY: &str = "GET /organization/admin_api_keys/{key_id}";
    /// Deletes an admin key.
    pub const DELETE_ADMIN_KEY: &str = "DELETE /organization/admin_api_keys/{key_id}";
    /// Lists projects.
    pub const LIST_PROJECTS: &str = "GET /organization/projects";
    /// Makes a project.
    pub const CREATE_PROJECT: &str = "POST /organization/projects";
    /// Reads a project.
    pub const READ_PROJECT: &str = "GET /organization/projects/{project_id}";
    /// Changes a project.
    pub const UPDATE_PROJECT: &str = "POST /organization/projects/{project_id}";
    /// Archives a project.
    pub const ARCHIVE_PROJECT: &str = "POST /organization/projects/{project_id}/archive";
    /// Lists a project's rate limits.
    pub const LIST_RATE_LIMITS: &str = "GET /organization/projects/{project_id}/rate_limits";
    /// Lists a project's keys.
    pub const LIST_KEYS: &str = "GET /organization/projects/{project_id}/api_keys";
    /// Reads a key.
    pub const READ_KEY: &str = "GET /organization/projects/{project_id}/api_keys/{api_key_id}";
    /// Changes a key.
    pub const UPDATE_KEY: &str = "POST /organization/projects/{project_id}/api_keys/{api_key_id}";
    /// Deletes a key.
    pub const DELETE_KEY: &str = "DELETE /organization/projects/{project_id}/api_keys/{api_key_id}";
    /// Lists service accounts.
    pub const LIST_ACCOUNTS: &str = "GET /organization/projects/{project_id}/service_accounts";
    /// Makes a service account.
    pub const CREATE_ACCOUNT: &str = "POST /organization/projects/{project_id}/service_accounts";
    /// Reads a service account.
    pub const READ_ACCOUNT: &str =
        "GET /organization/projects/{project_id}/service_accounts/{service_account_id}";
    /// Changes a service account.
    pub const UPDATE_ACCOUNT: &str =
        "POST /organization/projects/{project_id}/service_accounts/{service_account_id}";
    /// Deletes a service account.
    pub const DELETE_ACCOUNT: &str =
        "DELETE /organization/projects/{project_id}/service_accounts/{service_account_id}";
    /// Makes a key on a service account.
    pub const CREATE_KEY: &str =
        "POST /organization/projects/{project_id}/service_accounts/{service_account_id}/api_keys";
    /// Reads what was spent.
    pub const READ_COSTS: &str = "GET /organization/costs";
    /// Lists models.
    pub const LIST_MODELS: &str = "GET /models";
    /// Where calls to no endpoint are counted.
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

/// What a call's method and path lead to.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// This endpoint.
    Route(&'static Route),
    /// A path that exists for other methods.
    WrongMethod,
    /// Nothing.
    Nothing,
}

const PAGE: &[&str] = &["after", "limit"];

static ROUTES: [Route; 22] = [
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
    Route { name: endpoint::LIST_MODELS, access: Access::Account, query: &[], answer: models::list },
];

const COSTS: &[&str] =
    &["start_time", "end_time", "bucket_width", "project_ids", "api_key_ids", "group_by", "limit", "page"];

const fn admin(
    name: &'static str,
    query: &'static [&'static str],
    answer: fn(&mut World, &Call) -> Result<Value, Refusal>,
) -> Route {
    Route { name, access: Access::Admin, query, answer }
}

impl Found {
    /// Finds the endpoint and notes the ids in the path.
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

    /// What the endpoint is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route(route) => route.name,
            Self::WrongMethod | Self::Nothing => endpoint::NONE,
        }
    }

    /// Does the work.
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

/// Whether a path is what a pattern describes: `*` and `{name}` stand for one segment, `**` for all that follow.
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

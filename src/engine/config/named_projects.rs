//! The stored projects and their look-up by name. `projects` has the path.

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Error};
use crate::logical::{Collection, Record, Storage};
use crate::openai::{Client, ProjectId};

/// A project with a name in Vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Project {
    /// OpenAI's id of the project.
    pub project_id: ProjectId,
    /// The operator's description.
    #[serde(default)]
    pub description: String,
}

impl Record for Project {
    const VERSION: u32 = 1;
}

pub(in crate::engine) static PROJECTS: Collection<Project> = Collection::new("project/");

/// The lock for the deletion of a project and for its new users.
pub(in crate::engine) fn users_lock(project: &str) -> String {
    format!("project-users/{project}")
}

/// Checks at OpenAI that the project exists and is not archived.
pub(in crate::engine) async fn check(client: &Client, id: &ProjectId) -> Result<(), Error> {
    match client.retrying_not_found().project(id).await {
        Ok(project) if project.is_archived() => {
            Err(Error::field(format!("project_id must name a project in use: {id} is archived at OpenAI")))
        }
        Ok(_) => Ok(()),
        Err(error) if error.is_gone() => {
            Err(Error::ProjectNotFound(format!("project_id {id} does not exist at OpenAI")))
        }
        Err(error) => Err(Error::call("checking the project at OpenAI")(error)),
    }
}

/// OpenAI's id of a role's or set's project, given by name or by id.
pub(in crate::engine) async fn project_id(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
    project_id: Option<&ProjectId>,
) -> Result<ProjectId, Error> {
    if let Some(id) = project_id {
        return Ok(id.clone());
    }
    let found = engine.config.projects.get(storage, project).await?;
    Ok(found.ok_or_else(|| Error::ProjectNotFound(project.to_owned()))?.project_id.clone())
}

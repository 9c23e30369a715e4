//! Projects by their names in Vault, as they are stored and as whoever names one finds it. Their path is `projects`'.

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Error};
use crate::logical::{Collection, Record, Storage};
use crate::openai::{Client, ProjectId};

/// A project by its name in Vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Project {
    /// OpenAI's id of it.
    pub project_id: ProjectId,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Record for Project {
    const VERSION: u32 = 1;
}

pub(in crate::engine) static PROJECTS: Collection<Project> = Collection::new("project/");

/// Held by whoever begins to use a project, and by its deletion.
pub(in crate::engine) fn users_lock(project: &str) -> String {
    format!("project-users/{project}")
}

/// Asks OpenAI whether the project is there and in use.
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

impl Engine {
    /// The OpenAI project of a role or set that names a project, or gives its raw id.
    pub(in crate::engine) async fn project_id(
        &self,
        storage: &dyn Storage,
        project: &str,
        project_id: Option<&ProjectId>,
    ) -> Result<ProjectId, Error> {
        if let Some(id) = project_id {
            return Ok(id.clone());
        }
        let found = self.projects.get(storage, project).await?;
        Ok(found.ok_or_else(|| Error::ProjectNotFound(project.to_owned()))?.project_id.clone())
    }
}

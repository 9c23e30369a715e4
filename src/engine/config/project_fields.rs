//! `project` and `project_id`: the fields of roles, static roles and library sets that name their project.
//!
//! *The rule:* one of the two is required. A sent field replaces the other. Both may be sent if they agree.

use crate::engine::config::named_projects::Project;
use crate::engine::config::{checks, named_projects};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Path};
use crate::logical::Storage;
use crate::openai::ProjectId;

pub(in crate::engine) static PROJECT: Field<String> =
    Field::new("project", "Name of the project, as written to project/. This or project_id is required.")
        .default("");
pub(in crate::engine) static PROJECT_ID: Field<String> = Field::new(
    "project_id",
    "OpenAI's id of the project, instead of project. The one that is sent replaces the other; sent \
    together, they must agree.",
)
.default("");

/// A reference to a project: its name in Vault, OpenAI's id, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct NamedProject {
    pub(in crate::engine) project: String,
    pub(in crate::engine) project_id: Option<ProjectId>,
}

/// Adds the two fields to the path.
pub(in crate::engine) fn all<E: Send + Sync + 'static>(path: Path<E>) -> Path<E> {
    path.field(&PROJECT).field(&PROJECT_ID)
}

/// The reference after this call; `old` is the current one.
pub(in crate::engine) fn named(call: &Call, old: Option<&NamedProject>) -> Result<NamedProject, Error> {
    let old_name = || old.map(|old| old.project.clone()).unwrap_or_default();
    let old_id = || old.and_then(|old| old.project_id.clone());
    let sent_id = call.sent(&PROJECT_ID)?.map(|id| checks::optional(&id, PROJECT_ID.name())).transpose()?;
    let (project, project_id) = match (call.sent(&PROJECT)?, sent_id) {
        (None, None) => (old_name(), old_id()),
        // An empty name replaces only the old name.
        (Some(name), None) if name.is_empty() => (name, old_id()),
        (None, Some(None)) => (old_name(), None),
        (name, id) => (name.unwrap_or_default(), id.flatten()),
    };
    if project.is_empty() && project_id.is_none() {
        return Err(Error::field("project (a name) or project_id (OpenAI's id) is required"));
    }
    Ok(NamedProject { project, project_id })
}

/// The project of a written reference. An unchanged reference is not checked for agreement, because its name may refer
/// to another project now.
pub(in crate::engine) async fn written_project(
    engine: &Engine,
    storage: &dyn Storage,
    named: &NamedProject,
    old: Option<&NamedProject>,
) -> Result<ProjectId, Error> {
    if old == Some(named) {
        return named_projects::project_id(engine, storage, &named.project, named.project_id.as_ref()).await;
    }
    agreed_project(engine, storage, named).await
}

/// The project of a new reference. Its name must be known and must agree with its id.
pub(in crate::engine) async fn agreed_project(
    engine: &Engine,
    storage: &dyn Storage,
    named: &NamedProject,
) -> Result<ProjectId, Error> {
    let NamedProject { project, project_id } = named;
    if project.is_empty() {
        return named_projects::project_id(engine, storage, project, project_id.as_ref()).await;
    }
    let known = engine.config.projects.get(storage, project).await?;
    let known = known.ok_or_else(|| Error::ProjectNotFound(project.clone()))?;
    let Project { project_id: known, .. } = &*known;
    match project_id {
        Some(sent) if sent != known => Err(Error::field(format!(
            "project and project_id must agree: project {project:?} is {known}, not {sent}"
        ))),
        _ => Ok(known.clone()),
    }
}

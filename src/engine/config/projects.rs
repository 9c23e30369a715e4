//! `project/:name`: names for OpenAI projects, which roles and sets use.

use std::sync::Arc;

use crate::engine::accounts::kind::Mount;
use crate::engine::config::clients;
use crate::engine::config::named_projects::{Project, check, users_lock};
use crate::engine::{DEPENDENTS, Engine, Error};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Data, Operation, Response, data};

static NAME: Field<Name> = Field::new("name", "Name of the project in Vault.");
static PROJECT_ID: Field<String> =
    Field::new("project_id", "OpenAI's id of the project, such as proj_abc123.").required();
static DESCRIPTION: Field<String> = Field::new("description", "Description of the project.").default("");

const HELP: Help = Help {
    synopsis: "Give an OpenAI project a name that roles and library sets can use.",
    description: "\
A write checks at OpenAI that the project exists and is not archived. A project that a role, a static role or a \
library set uses cannot be deleted.

    $ vault write openai/project/research project_id=proj_abc123 description=\"Research\"",
};

const LIST_HELP: Help = Help {
    synopsis: "List the projects by their names in Vault.",
    description: "\
Answers each name with its project_id and description.

    $ vault list -detailed openai/project",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("project_id", "OpenAI's id of the project."),
    ResponseField::new::<String>("description", "Description of the project."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("project/:name", HELP)
            .noun("a project's entry")
            .field(&NAME)
            .field(&PROJECT_ID)
            .field(&DESCRIPTION)
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("project/", LIST_HELP).on(Operation::List, list),
    ]
}

impl Project {
    fn view(&self) -> Data {
        data([
            ("project_id", self.project_id.as_str().into()),
            ("description", self.description.as_str().into()),
        ])
    }
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.config.projects.get(&**call.storage(), &call.get(&NAME)?).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let project = engine.config.projects.get(&**call.storage(), &call.get(&NAME)?).await?;
    Ok(project.map(|project| Response::new(project.view())))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let old = engine.config.projects.get(storage, &name).await?;
    call.patches(old.is_some(), || format!("project {:?}", &*name))?;
    let project_id = match (call.sent(&PROJECT_ID)?, &old) {
        (None, Some(old)) => old.project_id.clone(),
        _ => call.get(&PROJECT_ID)?.parse().map_err(|error| Error::field(format!("project_id: {error}")))?,
    };
    let kept = old.as_ref().map(|old| old.description.clone());
    let description = call.sent(&DESCRIPTION)?.or(kept).unwrap_or_default();
    if old.as_ref().is_none_or(|old| old.project_id != project_id) {
        check(&clients::configured(&engine, storage).await?.client, &project_id).await?;
    }
    engine.config.projects.put(storage, &name, &Project { project_id, description }).await?;
    Ok(None)
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _no_new_user = engine.locks.lock(&users_lock(&name)).await;
    let users = DEPENDENTS.of_project(Mount { engine: &engine, storage }, &name).await?;
    if !users.is_empty() {
        return Err(Error::ProjectInUse(users));
    }
    engine.config.projects.delete(storage, &name).await?;
    Ok(None)
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    Ok(Some(Response::list(engine.config.projects.listed(&**call.storage(), Project::view).await?)))
}

//! Projects. The client only reads them.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::call::Request;
use super::{Call, Client, Error, ProjectId};

/// A project of the organization.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Project {
    /// Id.
    pub id: ProjectId,
    /// Name; OpenAI may omit it.
    #[serde(default)]
    pub name: Option<String>,
    /// `active` or `archived`.
    #[serde(default)]
    pub status: Option<String>,
    /// Archive time, if the project is archived.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub archived_at: Option<DateTime<Utc>>,
}

impl Project {
    /// True if nothing can be created in the project.
    pub fn is_archived(&self) -> bool {
        self.archived_at.is_some() || self.status.as_deref() == Some("archived")
    }
}

impl Client {
    /// Reads one project, archived or not.
    pub async fn project(&self, project: &ProjectId) -> Result<Project, Error> {
        self.send(Request::get(Call::Project, &["organization", "projects", project.as_str()])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archived(json: &str) -> bool {
        serde_json::from_str::<Project>(json).unwrap().is_archived()
    }

    #[test]
    fn a_project_is_archived_by_its_status_or_its_date() {
        assert!(!archived(r#"{"id":"p","name":null,"status":"active","archived_at":null,"new":[1]}"#));
        assert!(!archived(r#"{"id":"p"}"#));
        assert!(archived(r#"{"id":"p","status":"archived"}"#));
        assert!(archived(r#"{"id":"p","archived_at":1711471533}"#));
    }
}

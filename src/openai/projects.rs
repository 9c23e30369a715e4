//! Projects: read only, they are made elsewhere.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::call::Request;
use super::{Call, Client, Error, ProjectId};

/// A project of the organization.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, which OpenAI may leave out.
    #[serde(default)]
    pub name: Option<String>,
    /// `active` or `archived`.
    #[serde(default)]
    pub status: Option<String>,
    /// When it was archived.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub archived_at: Option<DateTime<Utc>>,
}

impl Project {
    /// Whether nothing can be made in it any more.
    pub fn is_archived(&self) -> bool {
        self.archived_at.is_some() || self.status.as_deref() == Some("archived")
    }
}

impl Client {
    /// One project, archived ones too.
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

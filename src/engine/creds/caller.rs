//! The caller of a read, as name templates know the caller: `.DisplayName` and `.EntityName`.

use crate::engine::naming::template::Template;
use crate::engine::{Engine, Error};
use crate::logical::Request;

/// Maximum length of a caller's name, in characters. A longer one is cut; names at OpenAI are much shorter.
const MAX_NAME: usize = 256;

/// Names of the caller.
pub(in crate::engine) struct Caller {
    /// Vault's display name of the token, such as `userpass-alice`.
    pub(in crate::engine) display_name: String,
    /// Name of the identity entity; empty without one, or if the template does not use the name.
    pub(in crate::engine) entity_name: String,
}

impl Caller {
    /// The caller of a request. The server is asked for the entity only if the template uses its name.
    pub(in crate::engine) async fn of(
        engine: &Engine,
        request: &Request,
        template: &Template,
    ) -> Result<Self, Error> {
        let is_asked = template.names_entity() && !request.entity_id.is_empty();
        let entity_name =
            if is_asked { engine.system.entity_name(&request.entity_id).await? } else { String::new() };
        Ok(Self { display_name: cut(&request.display_name), entity_name: cut(&entity_name) })
    }

    /// A caller for the trial of a template.
    pub(in crate::engine) fn example() -> Self {
        Self { display_name: "token".to_owned(), entity_name: "entity".to_owned() }
    }
}

fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

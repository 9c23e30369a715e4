//! `GET /models`: a cheap way to check that a service account's key or access token works.

use serde_json::{Value, json};

use super::call::Call;
use super::refusal::Refusal;
use super::world::World;

/// The available models.
#[expect(clippy::unnecessary_wraps, reason = "all endpoints have one signature")]
pub fn list(_: &mut World, _: &Call) -> Result<Value, Refusal> {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": 1_754_425_777, "owned_by": "system"});
    Ok(json!({"object": "list", "data": [model("gpt-5"), model("gpt-5-mini")]}))
}

/// `DELETE /models/{model}`: there are no models that a project could delete.
pub fn delete(_: &mut World, call: &Call) -> Result<Value, Refusal> {
    Err(Refusal::not_found("Model", call.id("model")))
}

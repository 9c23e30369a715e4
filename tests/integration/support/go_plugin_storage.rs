//! What the Go plugin stored on a real Vault, kept as a file: a configuration, a role, and a lease as Vault has it.
//!
//! `GO_PLUGIN=FILE UPDATE_GOLDEN=1 cargo test --test integration taken_over` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The role in the file, and that the story on a real Vault makes.
pub(crate) const ROLE: &str = "team.app-1";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/golden/predecessor.json")
}

/// The file: `config`, `role` and `lease`.
pub(crate) fn stored() -> Value {
    let text = fs::read_to_string(file()).expect("the file is in the tree");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The file has the shape of what was seen; with `UPDATE_GOLDEN` it is made so.
pub(crate) fn assert_same_shape(seen: &Value) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(seen).expect("a value is written") + "\n";
        fs::write(file(), text).expect("the tree can be written");
    }
    assert_eq!(shape(&stored()), shape(seen));
}

/// The same with the kind of each value in its place.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

//! The gauges that are computed when metrics are read. Those of refusals come from memory, the others from storage.

use super::registry::Metric;

pub const OVERDUE_ROTATIONS: Metric = Metric { name: "openai_overdue_rotations", help: "Overdue rotations." };
pub const ROTATION_OVERDUE: Metric =
    Metric { name: "openai_rotation_overdue_seconds", help: "Time since the most overdue rotation was due." };
pub const PENDING_DELETIONS: Metric = Metric {
    name: "openai_pending_deletions",
    help: "Pending deletions at OpenAI; 1000 means 1000 or more.",
};
pub const PENDING_DELETION_AGE: Metric =
    Metric { name: "openai_pending_deletion_age_seconds", help: "Age of the oldest pending deletion." };
pub const UNFINISHED_CREATIONS: Metric = Metric {
    name: "openai_unfinished_creations",
    help: "Interrupted creations at OpenAI that are not undone yet.",
};
pub const UNFINISHED_CREATION_AGE: Metric = Metric {
    name: "openai_unfinished_creation_age_seconds",
    help: "Age of the oldest interrupted creation.",
};
pub const ADMIN_KEY_AGE: Metric =
    Metric { name: "openai_admin_key_age_seconds", help: "Age of the admin API key." };
pub const ADMIN_KEY_REFUSED: Metric =
    Metric { name: "openai_admin_key_refused", help: "1 while OpenAI refuses the admin key." };
pub const SIGNING_KEY_AGE: Metric = Metric {
    name: "openai_signing_key_age_seconds",
    help: "Age of the key that signs identity tokens; 0 without one.",
};
pub const FEDERATED_ROLES: Metric = Metric {
    name: "openai_federated_roles",
    help: "Roles with access tokens; OpenAI takes 50 rules of a managed provider.",
};
pub const REFUSED_FEDERATED_ROLES: Metric = Metric {
    name: "openai_refused_federated_roles",
    help: "Roles whose tokens OpenAI refuses, as this process saw.",
};
pub const PENDING_CHANGES: Metric = Metric {
    name: "openai_pending_changes",
    help: "Federated roles and providers that are not as written at OpenAI.",
};

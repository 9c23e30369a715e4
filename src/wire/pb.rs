//! Messages and services that `build.rs` generates from `proto/`. Only [`super`] uses them.

pub(super) use generated::logical;
pub(super) use generated::multiplexing;
pub(super) use generated::pb::*;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated: both sides of every service, of which tests use what the plugin does not"
)]
mod generated {
    pub mod pb {
        tonic::include_proto!("pb");
    }
    /// The generated code of `pb` refers to this package by its name.
    pub mod logical {
        tonic::include_proto!("logical");
    }
    pub mod multiplexing {
        tonic::include_proto!("pluginutil.multiplexing");
    }
}

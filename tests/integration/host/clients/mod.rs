//! Programs that people use with Vault already, each with the mount as it is: nothing here is made for them.

mod command_line;
mod examples;
mod keyless;
mod operator;
mod outage;
mod templates;
mod terraform;

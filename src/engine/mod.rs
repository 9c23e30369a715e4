//! The OpenAI secrets engine: one file per noun of the README.

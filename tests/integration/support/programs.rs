//! The programs a test runs: the two servers and the plugin, and how each is found.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::{env, fs};

use aws_lc_rs::digest::{SHA256, digest};

/// The plugin's file name, which is also its name in the catalog and its mounts' type.
pub(crate) const PLUGIN: &str = "vault-plugin-secrets-openai";

/// Whose server a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    OpenBao,
    Vault,
}

/// A server's binary.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) product: Product,
    pub(crate) path: PathBuf,
}

/// Every server that host tests run on: OpenBao always, Vault where there is one.
pub(crate) fn servers() -> Vec<Program> {
    let openbao = openbao_server();
    let vault = vault().map(|path| Program { product: Product::Vault, path });
    std::iter::once(openbao).chain(vault).collect()
}

pub(crate) fn openbao_server() -> Program {
    Program { product: Product::OpenBao, path: openbao() }
}

/// OpenBao is found, or fetched, by the script that also serves `make demo`.
fn openbao() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(find_openbao).clone()
}

fn find_openbao() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/openbao.sh");
    let output = Command::new(&script).output().expect("scripts/openbao.sh can be run");
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "host tests need OpenBao: set BAO_BIN to its binary. {}", says.trim());
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn vault() -> Option<PathBuf> {
    let named = env::var_os("VAULT_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = &named {
        assert!(path.is_file(), "VAULT_BIN names no file: {}", path.display());
    }
    let found = named.or_else(|| on_the_path("vault"));
    if found.is_none() {
        say_once(
            "NOT RUN ON VAULT: there is no vault on the PATH and VAULT_BIN is not set; host tests run on OpenBao alone.",
        );
    }
    found
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Written past the test harness, which would swallow what a passing test prints.
fn say_once(sentence: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| writeln!(std::io::stdout(), "\n*** {sentence}\n").expect("stdout is open"));
}

/// The plugin as cargo built it for this test.
pub(crate) fn plugin() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_vault-plugin-secrets-openai"))
}

/// The digest by which a server recognises a plugin's file.
pub(crate) fn sha256(file: &Path) -> String {
    use std::fmt::Write;
    let bytes = fs::read(file).expect("a plugin's file can be read");
    digest(&SHA256, &bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    })
}

"""From the start of a plugin's process to its handshake line, in an environment as Vault makes it."""

import os
import subprocess
import tempfile
import time


def certificate():
    """A client certificate as Vault's: P-521, self-signed."""
    with tempfile.NamedTemporaryFile() as key:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp521r1 -nodes -days 1 -subj /O=HashiCorp/CN=localhost"
        command += " -addext extendedKeyUsage=clientAuth,serverAuth -keyout"
        return subprocess.check_output([*command.split(), key.name], text=True, stderr=subprocess.DEVNULL)


def environment(folder):
    return {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "VAULT_BACKEND_PLUGIN": "6669da05-b1c8-4f49-97d9-c8e5bed98e20",
        "PLUGIN_MIN_PORT": "10000",
        "PLUGIN_MAX_PORT": "25000",
        "PLUGIN_PROTOCOL_VERSIONS": "5",
        "PLUGIN_CLIENT_CERT": certificate(),
        "VAULT_PLUGIN_AUTOMTLS_ENABLED": "true",
        "VAULT_VERSION": "1.21.4",
    }


def seconds_to_handshake(program, variables):
    """One start; the process is killed as soon as it has said where it listens."""
    start = time.monotonic()
    # Without close_fds, Python forks cheaply.
    process = subprocess.Popen(
        [program], env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=False
    )
    line = process.stdout.readline()
    elapsed = time.monotonic() - start
    process.kill()
    process.wait()
    process.stdout.close()
    if line.count(b"|") < 4:
        raise RuntimeError(f"{program} made no handshake: {line!r}")
    return elapsed

"""A dev server with the plugins in its catalog, a simulated OpenAI, and clients that read."""

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from plugins import ADMIN_KEY, ORGANIZATION, PROJECT

ROOT = Path(__file__).resolve().parents[2]
HOST = re.search(r"^host: (.+)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M).group(1)
RELEASE = ROOT / "target" / HOST / "release"


def find_server():
    """$VAULT_BIN, else vault or bao on the PATH, else OpenBao, which is fetched."""
    found = os.environ.get("VAULT_BIN") or shutil.which("vault") or shutil.which("bao")
    return found or subprocess.check_output([ROOT / "scripts/openbao.sh"], text=True).strip()


class Api:
    """The server's HTTP API. Each call has a connection of its own: the server closes one that is idle for minutes."""

    def __init__(self, port, token="root"):
        self.port = port
        self.token = token

    def send(self, method, path, body=None):
        headers = {"X-Vault-Token": self.token, "X-Vault-Request": "true"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode().strip()}")
        return json.loads(text) if text else {}

    def read(self, path):
        return self.send("GET", path)

    def write(self, path, body):
        return self.send("PUT", path, body)

    def delete(self, path):
        return self.send("DELETE", path)


class Stage:
    """All that runs. Leaving it ends the processes and removes their folder.

    The server keeps its storage in memory, or on disk as people run it: `raft=True` is one node with integrated storage.
    """

    def __init__(self, server, plugins, raft=False):
        self.server = server
        self.plugins = plugins
        self.raft = raft
        self.processes = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="openai-bench-"))
        try:
            self.start()
        except BaseException:
            self.strike()
            raise
        return self

    def __exit__(self, *_):
        self.strike()

    def start(self):
        installed = self.folder / "plugins"
        installed.mkdir()
        self.installed = {plugin: plugin.install(installed) for plugin in self.plugins}
        self.openai = self.start_simulator()
        self.port = free_port()
        self.api = self.start_raft(installed) if self.raft else self.start_dev(installed)
        for plugin, program in self.installed.items():
            digest = hashlib.sha256(program.read_bytes()).hexdigest()
            self.api.write(f"sys/plugins/catalog/secret/{plugin.name}", {"sha256": digest, "command": plugin.name})

    def start_simulator(self):
        command = [RELEASE / "openai-simulator", "--listen", "127.0.0.1:0", "--admin-key", ADMIN_KEY]
        command += ["--organization", ORGANIZATION, "--project", PROJECT]
        simulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(simulator)
        return simulator.stdout.readline().removeprefix("listening on ").strip()

    def slow_openai(self, milliseconds):
        """How long every call of OpenAI takes from now on."""
        host = re.match(r"https?://[^/]+", self.openai).group()
        body = json.dumps({"ms": milliseconds}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{host}/_sim/latency", data=body, method="POST")).close()

    def start_dev(self, plugins):
        arguments = ["-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-plugin-dir={plugins}"]
        self.start_server([*arguments, f"-dev-listen-address=127.0.0.1:{self.port}"])
        return Api(self.port)

    def start_raft(self, plugins):
        data, config = self.folder / "raft", self.folder / "server.json"
        data.mkdir()
        address = f"127.0.0.1:{self.port}"
        settings = {
            "storage": {"raft": {"path": str(data), "node_id": "bench"}},
            "listener": {"tcp": {"address": address, "tls_disable": True}},
            "api_addr": f"http://{address}",
            "cluster_addr": f"http://127.0.0.1:{self.port + 1}",
            "plugin_directory": str(plugins),
            "disable_mlock": True,
        }
        config.write_text(json.dumps(settings))
        self.start_server([f"-config={config}"])
        keys = Api(self.port).write("sys/init", {"secret_shares": 1, "secret_threshold": 1})
        Api(self.port).write("sys/unseal", {"key": keys["keys"][0]})
        api = Api(self.port, keys["root_token"])
        self.wait(lambda: api.read("sys/health"))
        return api

    def start_server(self, arguments):
        command = [self.server, "server", *arguments, "-log-level=warn"]
        self.log = self.folder / "server.log"
        with self.log.open("w") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        # It answers before it is initialised, too.
        self.wait(lambda: Api(self.port).read("sys/seal-status"))

    def wait(self, ready):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return ready()
            except (OSError, RuntimeError):
                time.sleep(0.1)
        raise RuntimeError(f"the server does not start:\n{self.log.read_text()[-2000:]}")

    def load(self, path, clients, **until):
        """Reads with so many clients, for `seconds=` or until `requests=`; gives how many were read and in what time of a client."""
        (kind, count), = until.items()
        command = [RELEASE / "examples/load", "--server", f"127.0.0.1:{self.port}", "--path", path]
        command += ["--clients", str(clients), f"--{kind}", str(count)]
        run = subprocess.run(command, env={**os.environ, "VAULT_TOKEN": self.api.token}, stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise RuntimeError(f"reads of {path} failed:\n{run.stdout}\n{self.log.read_text()[-2000:]}")
        read, seconds = re.search(r"^\w+ +(\d+) in ([\d.]+) s$", run.stdout, re.M).groups()
        return int(read), float(seconds)

    def strike(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port():
    """One whose neighbour is free too: a dev server takes it for its cluster address."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue

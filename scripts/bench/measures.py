"""What is measured, in the order in which it is. The two plugins take turns, and the first of each round is the second of the next,
so that whatever else the machine does meets both."""

import statistics
import time

from process import cpu_seconds, resident, running, sampled
from start import environment, seconds_to_handshake
from table import AtLeast, AtMost, Row

LATENCIES = (0, 20, 100)
CLIENTS = (1, 16, 64)
THROUGHPUT_BOUNDS = {(100, 64): AtLeast(1.95), (0, 16): AtLeast(1.15)}
# Where each write waits for the disk.
RAFT_BOUNDS = {(0, 1): AtLeast(0.90), (0, 16): AtLeast(1.05), (100, 64): AtLeast(1.75)}


# The Go plugin has no tokens: beside them stand its credentials.
ACCESS_TOKEN = "access token, beside a credential"
IDENTITY_TOKEN = "identity token, beside a credential"


class Counts:
    """How often; a quick run shows that all of it works, and little more."""

    def __init__(self, quick):
        self.starts = 10 if quick else 40
        self.mounts = 3 if quick else 7
        self.rounds = 2 if quick else 4
        self.reads = 1_000 if quick else 5_000
        self.credentials = 250 if quick else 2_500
        self.seconds = 1 if quick else 3
        self.issued = 5_000 if quick else 50_000
        self.roles = 1_000 if quick else 10_000


class Bench:
    def __init__(self, stage, ours, theirs, counts):
        self.stage, self.ours, self.theirs, self.counts = stage, ours, theirs, counts
        self.issued = {ours: 0, theirs: 0}

    def run(self):
        """The rows, as they are measured."""
        yield self.binary()
        yield self.handshake()
        yield self.mount()
        self.set_up()
        self.process = {plugin: running(self.stage.installed[plugin]) for plugin in (self.ours, self.theirs)}
        yield self.at_rest()
        yield from self.cpu()
        yield from self.throughput()
        yield self.tokens()
        yield self.after_many_credentials()
        yield self.with_many_roles()

    def run_on_raft(self):
        """The rows that depend on what a storage write costs."""
        self.set_up()
        for (latency, clients), bound in RAFT_BOUNDS.items():
            self.stage.slow_openai(latency)
            yield self.rate("on raft: ", latency, clients, bound)

    def set_up(self):
        for plugin in (self.ours, self.theirs):
            self.stage.api.write(f"sys/mounts/{plugin.name}", {"type": plugin.name})
            plugin.set_up(self.stage.api, self.stage.openai)
        self.ours.set_up_keyless(self.stage.api, self.stage.openai)

    def turns(self, rounds):
        for number in range(rounds):
            yield from (self.ours, self.theirs) if number % 2 == 0 else (self.theirs, self.ours)

    def row(self, what, unit, figures, bound=None):
        return Row(what, unit, figures[self.ours], figures[self.theirs], bound)

    def medians(self, rounds, measure):
        seen = {self.ours: [], self.theirs: []}
        for plugin in self.turns(rounds):
            seen[plugin].append(measure(plugin))
        return {plugin: statistics.median(values) for plugin, values in seen.items()}

    def binary(self):
        sizes = {plugin: program.stat().st_size / 1e6 for plugin, program in self.stage.installed.items()}
        return self.row("binary", "MB", sizes, AtMost(0.37))

    def handshake(self):
        variables = environment(self.stage.folder)
        start = lambda plugin: 1000 * seconds_to_handshake(self.stage.installed[plugin], variables)
        return self.row("start to handshake", "ms", self.medians(self.counts.starts, start), AtMost(0.20))

    def mount(self):
        """With no other mount of the plugin there: the server starts its process for it, and ends it with the mount."""

        def seconds(plugin):
            start = time.monotonic()
            self.stage.api.write(f"sys/mounts/{plugin.name}", {"type": plugin.name})
            elapsed = time.monotonic() - start
            self.stage.api.delete(f"sys/mounts/{plugin.name}")
            return 1000 * elapsed

        return self.row("mount", "ms", self.medians(self.counts.mounts, seconds))

    def resident(self):
        return {plugin: resident(process) for plugin, process in self.process.items()}

    def at_rest(self):
        for plugin in (self.ours, self.theirs):
            self.read_credentials(plugin, 1, requests=1)
        self.settle()
        return self.row("resident, at rest", "MB", self.resident(), AtMost(0.30))

    def cpu(self):
        """CPU time of the plugin's process for each request, at 16 clients."""
        spent = {"config read": {}, "credential": {}, "revocation": {}, ACCESS_TOKEN: {}, IDENTITY_TOKEN: {}}

        def measure(kind, plugin, count, work):
            before = cpu_seconds(self.process[plugin])
            work()
            self.settle()
            used = cpu_seconds(self.process[plugin]) - before
            spent[kind][plugin] = spent[kind].get(plugin, 0) + 1000 * used / count / self.counts.rounds

        revoke = lambda plugin: self.stage.api.write(f"sys/leases/revoke-prefix/{plugin.credential}", {"sync": True})
        for plugin in (self.ours, self.theirs):
            revoke(plugin)
        for plugin in self.turns(self.counts.rounds):
            reads, credentials = self.counts.reads, self.counts.credentials
            measure("config read", plugin, reads, lambda: self.stage.load(f"{plugin.name}/config", 16, requests=reads))
            measure("credential", plugin, credentials, lambda: self.read_credentials(plugin, 16, requests=credentials))
            measure("revocation", plugin, credentials, lambda: revoke(plugin))
            if plugin is self.ours:
                tokens = {ACCESS_TOKEN: plugin.access_token, IDENTITY_TOKEN: plugin.identity_token}
                for kind, path in tokens.items():
                    measure(kind, plugin, credentials, lambda: self.stage.load(path, 16, requests=credentials))
        for kind in (ACCESS_TOKEN, IDENTITY_TOKEN):
            spent[kind][self.theirs] = spent["credential"][self.theirs]
        bounds = {
            "config read": AtMost(0.25),
            "credential": AtMost(0.38),
            ACCESS_TOKEN: AtMost(0.25),
            IDENTITY_TOKEN: AtMost(0.25),
        }
        for kind, figures in spent.items():
            yield self.row(f"CPU, {kind}", "ms", figures, bounds.get(kind))

    def settle(self):
        """What a plugin does behind its answers is its cost too."""
        time.sleep(0.5)

    def throughput(self):
        rows = []
        for latency in LATENCIES:
            self.stage.slow_openai(latency)
            for clients in CLIENTS:
                with sampled(self.process[self.ours]) as ours, sampled(self.process[self.theirs]) as theirs:
                    rows.append(self.rate("", latency, clients, THROUGHPUT_BOUNDS.get((latency, clients))))
                if (latency, clients) == (LATENCIES[-1], CLIENTS[-1]):
                    rows.insert(0, Row("resident, under load", "MB", ours.median, theirs.median, AtMost(0.37)))
        self.stage.slow_openai(0)
        return rows

    def tokens(self):
        """Access tokens of a role without keys, beside the Go plugin's credentials."""
        self.stage.slow_openai(20)
        rates = self.rates(64, self.counts.rounds * 2, self.read_tokens)
        self.stage.slow_openai(0)
        return self.row("access tokens/s, beside credentials, OpenAI at 20 ms, 64 clients", "", rates, AtLeast(1.9))

    def rate(self, where, latency, clients, bound):
        """A row with a bound is measured twice as long."""
        rates = self.rates(clients, self.counts.rounds * (2 if bound else 1), self.read_credentials)
        what = f"{where}credentials/s, OpenAI at {latency} ms, {clients} client{'s'[:clients != 1]}"
        return self.row(what, "", rates, bound)

    def rates(self, clients, rounds, read_with):
        count, time_taken = dict.fromkeys(self.issued, 0), dict.fromkeys(self.issued, 0.0)
        for plugin in self.turns(rounds):
            read, seconds = read_with(plugin, clients, seconds=self.counts.seconds)
            count[plugin] += read
            time_taken[plugin] += seconds
        return {plugin: count[plugin] / time_taken[plugin] for plugin in self.issued}

    def after_many_credentials(self):
        for plugin in (self.ours, self.theirs):
            missing = self.counts.issued - self.issued[plugin]
            if missing > 0:
                self.read_credentials(plugin, 64, requests=missing)
        self.settle()
        return self.row(f"resident, after {self.counts.issued:,} credentials", "MB", self.resident())

    def with_many_roles(self):
        """In a fresh process of the same mount."""
        for plugin in (self.ours, self.theirs):
            self.stage.api.write("sys/plugins/reload/backend", {"plugin": plugin.name})
            for number in range(self.counts.roles):
                plugin.write_role(self.stage.api, f"role-{number}")
        self.process = {plugin: running(self.stage.installed[plugin]) for plugin in self.process}
        for plugin in (self.ours, self.theirs):
            self.read_credentials(plugin, 16, requests=100)
        self.settle()
        return self.row(f"resident, {self.counts.roles:,} roles", "MB", self.resident())

    def read_credentials(self, plugin, clients, **until):
        read, seconds = self.stage.load(plugin.credential, clients, **until)
        self.issued[plugin] += read
        return read, seconds

    def read_tokens(self, plugin, clients, **until):
        """Access tokens; the Go plugin's credentials."""
        if plugin is self.theirs:
            return self.read_credentials(plugin, clients, **until)
        return self.stage.load(plugin.access_token, clients, **until)

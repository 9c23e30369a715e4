"""What the kernel tells of a process: its memory and its time on the CPU. Linux only."""

import os
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path


def running(program):
    """The one process that runs this program."""
    found = processes(program)
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes run {program}")
    return found[0]


def is_running(program):
    return bool(processes(program))


def processes(program):
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and runs(entry, program)]


def runs(entry, program):
    try:
        return os.readlink(entry / "exe") == str(program)
    except OSError:  # ended meanwhile, or none of our business
        return False


def resident(process):
    """Resident memory in MB (10^6 bytes)."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def cpu_seconds(process):
    """User and system time of all its threads, ended ones too, to the nanosecond."""
    # The clock's number is made from the process's as the kernel makes it: CPUCLOCK_SCHED of the whole process.
    return time.clock_gettime((~process << 3) | 2)


class Samples:
    """Looks at a process's memory ten times a second."""

    def __init__(self, process):
        self.process = process
        self.seen = []
        self.over = threading.Event()

    def look(self):
        while not self.over.wait(0.1):
            self.seen.append(resident(self.process))

    @property
    def median(self):
        return statistics.median(self.seen)


@contextmanager
def sampled(process):
    samples = Samples(process)
    thread = threading.Thread(target=samples.look)
    thread.start()
    try:
        yield samples
    finally:
        samples.over.set()
        thread.join()

"""Processes: each on a core, measured with all its children, and ended whatever happens."""

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

# What is measured has a core to itself; whoever asks, and the vendor, share the other one.
SERVERS, LOAD = (sorted(os.sched_getaffinity(0)) * 2)[:2]

# Settings of the caller's shell are not the gateway's here.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CONTACTS_GATEWAY__", "OTEL_"))}


class Failed(Exception):
    """What a person has to mend before anything can be measured."""


class Server:
    """A program that listens on `port`, on the servers' core unless told otherwise."""

    def __init__(self, name, argv, port, log, core=SERVERS):
        self.name, self.port, self.log = name, port, log
        self.headers = {}  # what requests have to say
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            # In a session of its own: Ctrl-C is for us, who end it.
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=ENVIRONMENT,
            )

    def until_ready(self, ready, seconds=20):
        """Asks `ready` until it is true, and does not mind connections that are refused."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if ready():
                    return self
            time.sleep(0.001)
        raise Failed(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")

    def cpu(self):
        """Seconds of processor time so far, threads that ended included."""
        return sum(filter(None, map(cpu_of, family(self.process.pid))))

    def memory(self, field="VmRSS"):
        """KiB that are resident, or with VmHWM were at most."""
        return sum(status(pid, field) for pid in family(self.process.pid))

    def stop(self):
        mine = family(self.process.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        kill(mine)  # what did not listen, and what a parent left behind
        self.process.wait()


def run(argv, core=None, **more):
    """Runs a command to its end, and ends it with all it started if we are ended first. What it prints on standard output."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen([*pinned, *map(str, argv)], stdout=subprocess.PIPE, text=True, start_new_session=True, **more)
    try:
        out, _ = process.communicate()
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if process.returncode:
        raise Failed(f"{argv[0]} ended with {process.returncode}")
    return out


def end_all():
    """Whatever we started and could not take down in time."""
    kill(family(os.getpid())[1:])


def kill(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def free_port():
    """One of those that the system gives nobody meanwhile, neither to who listens on port 0 nor to who connects."""
    while True:
        port = random.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def family(pid):
    """A process and all that come from it."""
    parents = {int(name): parent for name in os.listdir("/proc") if name.isdigit() and (parent := parent_of(name))}
    found, more = [], [pid]
    while more:
        found += more
        more = [child for child, parent in parents.items() if parent in more]
    return found


def parent_of(pid):
    with contextlib.suppress(OSError):
        # After the name, which may hold anything, come state and parent.
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_of(pid):
    """The kernel's clock of a process, to the nanosecond, where /proc's ticks are 10 ms."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)


def status(pid, field):
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0

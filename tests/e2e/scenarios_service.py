"""The daemon as a service: what a service manager is told, and restarts under load."""

import os
import shutil
import socket
import time
from pathlib import Path

from cluster import Cluster, IdLoad, as_pg_user, wait_for
from scenario import Commit, check, identical, scenario


class ServiceManager:
    """systemd's side of sd_notify(3) for one daemon."""

    def __init__(self, cluster):
        path = cluster.dir / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        if os.geteuid() == 0:
            shutil.chown(path, as_pg_user()["user"], as_pg_user()["group"])
        self.variables = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}

    def start(self, cluster, name):
        os.environ.update(self.variables)
        try:
            return cluster.start_daemon(name)
        finally:
            for variable in self.variables:
                del os.environ[variable]

    def messages(self, seconds, until=lambda text: False):
        """What comes within that time, or until one fits."""
        out, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline and not (out and until(out[-1])):
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                out.append(self.socket.recv(4096).decode())
            except TimeoutError:
                pass
        return out


@scenario
def a_service_manager_is_told():
    with Cluster() as cluster:
        cluster.start()
        cluster.daemons["p"].stop()
        manager = ServiceManager(cluster)
        daemon = manager.start(cluster, "p")
        first = manager.messages(20, until=lambda text: True)
        check(first and first[0].startswith("READY=1\nSTATUS="), "the manager is told that the daemon is ready")
        cluster.wait_streaming()
        settled = "STATUS=running; a streaming; b streaming\n"
        streaming = manager.messages(10, until=lambda text: settled in text)
        check(settled in streaming[-1], "and how it is: " + streaming[-1].split("\n")[1])
        fed = [text for text in manager.messages(2) if "WATCHDOG=1" in text]
        check(len(fed) >= 4, f"the watchdog of 600 ms is fed {len(fed)} times in 2 s")
        for name in ("a", "b"):
            cluster.daemons[name].signal(19)
        commit = Commit(cluster)
        waits = manager.messages(10, until=lambda text: "commits wait for" in text)
        check("policy needs 1 more of (a, b)" in waits[-1], waits[-1].split("\n")[1])
        for name in ("a", "b"):
            cluster.daemons[name].signal(18)
        check(commit.returned(20), "the commit goes on")
        check(daemon.stop() == 0 and manager.messages(3, until=lambda text: "STOPPING" in text)[-1] == "STOPPING=1", "an orderly stop is told, too")


def longest_stall(load, begin, end):
    """The longest time within [begin, end] in which no commit returned."""
    times = [begin] + sorted(at for _, _, _, at in load.lines() if begin < at < end) + [end]
    return max(after - before for before, after in zip(times, times[1:]))


@scenario
def a_restarted_daemon_stalls_commits_briefly():
    with Cluster() as cluster:
        cluster.start()
        load = IdLoad(cluster)
        restarts = []
        for name in ("p", "a", "p"):
            for way in ("stop", "kill"):
                time.sleep(1)
                begin = time.time()
                getattr(cluster.daemons[name], way)()
                cluster.start_daemon(name)
                wait_for(f"a commit after {name} was restarted", lambda: Commit(cluster).returned(20))
                cluster.wait_streaming()
                restarts.append((name, way, begin, time.time()))
        check(load.process.alive(), "the load went on throughout")
        load.end()
        for name, way, begin, end in restarts:
            print(f"  {way:4} and start of {'the primary' if name == 'p' else 'a replica'}'s daemon: commits stood still for {longest_stall(load, begin, end) * 1e3:.0f} ms")
        stalls = [longest_stall(load, begin, end) for _, _, begin, end in restarts]
        # Not a figure of speed: a restart that only time-outs end takes longer than this.
        check(max(stalls) < 5, f"the longest stall of {len(stalls)} restarts: {max(stalls) * 1e3:.0f} ms")
        check(load.lost(cluster.primary) == [], "nothing that was acknowledged is missing")
        identical(cluster)
        load.remove()


def sleeps(process):
    """How often the threads of a process have gone to sleep so far."""
    statuses = Path(f"/proc/{process.popen.pid}/task").glob("*/status")
    return sum(int(line.split()[1]) for status in statuses for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))


@scenario
def daemons_sleep_while_nothing_is_written():
    """Also after a load: each wakes up some hundred times a second, for its timers and its peers' heartbeats."""
    with Cluster() as cluster:
        cluster.start()
        IdLoad(cluster, clients=4, seconds=3).wait(30)
        cluster.wait_replayed(cluster.flush_position())
        time.sleep(1)
        before = {name: sleeps(daemon) for name, daemon in cluster.daemons.items()}
        time.sleep(4)
        for name, daemon in cluster.daemons.items():
            a_second = (sleeps(daemon) - before[name]) / 4
            check(a_second < 500, f"{name} went to sleep {a_second:.0f} times a second")

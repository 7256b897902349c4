"""The kill matrix: everything that can die or stall does, at random moments under load, and nothing that was acknowledged is ever missing.

    kill_matrix.py [--rounds N] [--cell NAME ...] [--list]       SEED=N repeats the choices (not the machine's timing)

One cluster lives through all cells. A round: a load of several clients that keep what they were told outside of the database; at a random moment the
event; what must hold meanwhile (commits wait, or go on); the recovery, by itself or by the documented command; then every replica streams, every
client of the load that lived goes on, and the primary and each standby have every acknowledged commit. After each group of cells the replicas' logs
equal the primary's byte for byte, pg_waldump reads them, pg_amcheck is content with every server. Exit status as of run.py.
"""

import argparse
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cluster import PG_BIN, PG_USER, Cluster, Failure, IdLoad, parse_lsn, run, wait_for  # noqa: E402
from scenario import Commit, check, identical  # noqa: E402

RECOVERY_SECONDS = 30  # By far more than it takes, also on a machine that does other things.
IMAGE_BYTES = 4 << 30  # Sparse.
CLONE_NEWNS = 0x20000


# ---- what can die


class Server:
    """A PostgreSQL with all its processes."""

    def __init__(self, server, is_primary):
        self.server, self.is_primary, self.name = server, is_primary, server.name

    def kill(self):
        self.server.kill()

    def restart(self):
        self.server.start(wait=self.is_primary)

    def processes(self):
        postmaster = self.server.process.popen.pid
        return [postmaster] + [int(pid) for pid in subprocess.run(["pgrep", "-P", str(postmaster)], stdout=subprocess.PIPE, text=True).stdout.split()]

    def stall(self):
        os.kill(self.server.process.popen.pid, signal.SIGSTOP)  # First, so that it has no new children.
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def signal(self, number):
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


class Daemon:
    def __init__(self, cluster, node):
        self.cluster, self.node, self.name = cluster, node, f"daemon {node}"

    def kill(self):
        self.cluster.daemons[self.node].kill()

    def restart(self):
        self.cluster.start_daemon(self.node)

    def stall(self):
        self.cluster.daemons[self.node].signal(signal.SIGSTOP)

    def go_on(self):
        self.cluster.daemons[self.node].signal(signal.SIGCONT)


def primary(cluster, _):
    return [Server(cluster.primary, True)]


def primary_daemon(cluster, _):
    return [Daemon(cluster, "p")]


def replica_daemon(cluster, node):
    return [Daemon(cluster, node)]


def standby(cluster, node):
    return [Server(cluster.standbys[node], False)]


def primary_daemon_and_replica_daemon(cluster, node):
    return [Daemon(cluster, "p"), Daemon(cluster, node)]


def replica_daemon_and_standby(cluster, node):
    return [Daemon(cluster, node), Server(cluster.standbys[node], False)]


def both_replica_daemons(cluster, _):
    return [Daemon(cluster, node) for node in cluster.names]


def primary_and_its_daemon(cluster, _):
    return [Server(cluster.primary, True), Daemon(cluster, "p")]


WAIT, GO_ON, NO_DATABASE = "commits wait", "commits go on", "no database"
VICTIMS = {primary: NO_DATABASE, primary_daemon: WAIT, replica_daemon: GO_ON, standby: GO_ON, primary_daemon_and_replica_daemon: WAIT,
           replica_daemon_and_standby: GO_ON, both_replica_daemons: WAIT, primary_and_its_daemon: NO_DATABASE}


# ---- the cells


def meanwhile(cluster, expected):
    """The commit that was begun while it lasts; it returns when all is well again."""
    if expected == NO_DATABASE:
        return None
    commit = Commit(cluster)
    returned = commit.returned(0.7 if expected == WAIT else 15)
    if returned != (expected == GO_ON):
        raise Failure(f"expected that meanwhile {expected}, but a commit {'returned' if returned else 'waits'}")
    return commit


def killed(victims, expected):
    def event(cluster, node):
        parts = victims(cluster, node)
        if victims is primary and random.random() < 0.5:
            return crashed_by_one_backend(cluster)
        random.shuffle(parts)
        for part in parts:
            part.kill()
            time.sleep(random.choice((0, 0, random.uniform(0, 0.1))))
        commit = meanwhile(cluster, expected)
        time.sleep(random.choice((0, random.uniform(0, 1))))
        # A daemon that starts needs its PostgreSQL; the others may come in any order.
        for part in sorted(parts, key=lambda part: part.name != cluster.primary.name):
            part.restart()
        return commit
    return event


def crashed_by_one_backend(cluster):
    """The server itself ends all others, recovers and goes on under the same postmaster."""
    backends = cluster.primary.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'").split()
    os.kill(int(random.choice(backends)), signal.SIGKILL)
    wait_for("PostgreSQL to recover by itself", lambda: cluster.primary.sql("SELECT 1", check=False) == "1", RECOVERY_SECONDS)


def stalled(victims, expected):
    def event(cluster, node):
        parts = victims(cluster, node)
        until = time.monotonic() + random.uniform(2, 4)
        for part in parts:
            part.stall()
        commit = meanwhile(cluster, expected)
        time.sleep(max(0, until - time.monotonic()))
        for part in parts:
            part.go_on()
        return commit
    return event


def state_directory_lost(cluster, _):
    """A new state directory is a new identity: only --claim-term makes it the primary."""
    cluster.daemons["p"].kill()
    shutil.rmtree(cluster.dir / "state_p")
    cluster.start_daemon("p")
    reason = wait_for("the daemon without its state to be refused", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "superseded" and s["primary"]["reason"], RECOVERY_SECONDS)
    if "--claim-term" not in reason:
        raise Failure(f"status does not name --claim-term: {reason}")
    commit = meanwhile(cluster, WAIT)
    cluster.daemons["p"].stop()
    term = max(int(cluster.status(node)["replica"]["promised_term"]) for node in cluster.names)
    cluster.start_daemon("p", ["--claim-term", str(term + 1)])
    return commit


def other_of(cluster, node):
    return next(name for name in cluster.names if name != node)


def replica_emptied(cluster, node):
    """What it had acknowledged under its name counts no more (Q1); it is a new member with a log of its own (Q4)."""
    before = cluster.status(node)["replica"]["log_id"]
    daemon, server, other = Daemon(cluster, node), Server(cluster.standbys[node], False), Daemon(cluster, other_of(cluster, node))
    daemon.kill()
    server.kill()
    other.stall()
    for path in (cluster.dir / f"replica_{node}").iterdir():
        if path.name != "lost+found":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(cluster.standbys[node].data)
    commit = meanwhile(cluster, WAIT)
    cluster.init_replica(node)
    daemon.restart()
    if commit.returned(1):
        raise Failure(f"a commit returned although {node} has no standby yet and {other.node} is stopped")
    server.restart()
    if not commit.returned(RECOVERY_SECONDS):
        raise Failure(f"with {node} made anew a commit waits still: {cluster.status('p')['primary']}")
    other.go_on()
    if cluster.status(node)["replica"]["log_id"] == before:
        raise Failure(f"{node} was made anew and has the log id of before")
    wait_for("the slot of its joining to be dropped", lambda: cluster.primary.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%joining%'") == "0", RECOVERY_SECONDS)
    return commit


def fill(directory):
    """Every free byte of its file system, down to the last block."""
    ballast = directory / "ballast"
    end = 0
    with open(ballast, "wb", buffering=0) as file:
        for size in (64 << 20, 1 << 20, 1 << 12):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), end, size)
                    end += size
            except OSError:
                pass
    return ballast


def disk_full(cluster, _):
    """Replica a, whose directory has a small file system of its own."""
    ballast = fill(cluster.dir / "replica_a")
    try:
        write_wal(cluster, 4)
        view = wait_for("a to say why it acknowledges nothing", lambda: (s := cluster.status("a")) and s["replica"]["state"] == "no_space" and s["replica"], RECOVERY_SECONDS)
        if "no room" not in view["reason"]:
            raise Failure(f"status does not say that there is no room: {view['reason']}")
        time.sleep(0.5)  # Writes that were under way when one found no room may still end well.
        view = cluster.status("a")["replica"]
        restarted = random.random() < 0.5
        if restarted:
            random.choice((cluster.daemons["a"].kill, cluster.daemons["a"].stop))()  # An orderly stop ends also when nothing can be written.
            cluster.start_daemon("a")
        Daemon(cluster, "b").stall()
        commit = meanwhile(cluster, WAIT)
        time.sleep(random.uniform(0, 2))
        stood = cluster.status("a")
        if not stood or not cluster.daemons["a"].alive():
            raise Failure(f"a's daemon ended: {cluster.daemon_log('a')}")
        if not restarted and stood["replica"]["durable_end"] != view["durable_end"]:
            raise Failure("a's durable_end moved on a full disk")
    finally:
        ballast.unlink()
    if not commit.returned(RECOVERY_SECONDS):
        raise Failure(f"a has room again, but a commit waits still: {cluster.status('p')['primary']} {cluster.status('a')['replica']}")
    Daemon(cluster, "b").go_on()
    return commit


def write_wal(cluster, megabytes):
    """Without waiting: under FIRST a connected replica that has no room is still the one that commits wait for."""
    cluster.primary.sql(f"SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS big (filler text); INSERT INTO big SELECT repeat('w', 500) FROM generate_series(1, {1800 * megabytes}); TRUNCATE big")


GROUPS = {"kill": {f"kill_{victims.__name__}": killed(victims, expected) for victims, expected in VICTIMS.items()},
          "stop": {f"stop_{victims.__name__}": stalled(victims, expected) for victims, expected in VICTIMS.items()},
          "loss": {"disk_full": disk_full, "state_directory_lost": state_directory_lost, "replica_emptied": replica_emptied}}
CELLS = [name for cells in GROUPS.values() for name in cells]


# ---- a round


def progress(cluster, load):
    rows = cluster.primary.sql(f"SELECT client, max(n) FROM ids WHERE run = {load.run_id} GROUP BY client", check=False).split()
    return dict(tuple(map(int, row.split("|"))) for row in rows)


def every_client_goes_on(cluster, load):
    """Those that the event left connected; a lost server ends them all."""
    before = progress(cluster, load)
    if not load.process.alive():
        return
    wait_for("every client of the load to go on", lambda: not load.process.alive() or all(now > before.get(client, 0) for client, now in progress(cluster, load).items()), RECOVERY_SECONDS, 0.1)


def nothing_is_missing(cluster, load):
    acknowledged = load.acknowledged()
    end = cluster.flush_position()
    cluster.wait_replayed(end, timeout=RECOVERY_SECONDS)
    for server in (cluster.primary, *cluster.standbys.values()):
        have = {tuple(map(int, row.split("|"))) for row in server.sql(f"SELECT client, n FROM ids WHERE run = {load.run_id}").split()}
        missing = [(client, n) for client, count in acknowledged.items() for n in range(1, count + 1) if (client, n) not in have]
        if missing:
            raise Failure(f"{len(missing)} acknowledged commits of run {load.run_id} are not on {server.name}, the first: {missing[:5]}")
    return sum(acknowledged.values())


def play(cluster, name, event):
    load = IdLoad(cluster, random.choice((4, 6)), 600)
    wait_for("the load to begin", lambda: len(progress(cluster, load)) == load.clients, RECOVERY_SECONDS)
    time.sleep(random.uniform(0, 0.7))
    node = random.choice(cluster.names)
    commit = event(cluster, node)
    begin = time.monotonic()
    if not (commit or Commit(cluster)).returned(RECOVERY_SECONDS) or not Commit(cluster).returned(RECOVERY_SECONDS):
        raise Failure(f"commits do not go on within {RECOVERY_SECONDS} s: {cluster.status('p')}")
    committing = time.monotonic() - begin
    cluster.wait_streaming(timeout=RECOVERY_SECONDS)
    streaming = time.monotonic() - begin
    every_client_goes_on(cluster, load)
    load.end()
    count = nothing_is_missing(cluster, load)
    for part in ["p", *cluster.names]:
        if not cluster.daemons[part].alive():
            raise Failure(f"daemon {part} ended")
    load.remove()
    cluster.clients.remove(load)
    print(f"  {name} ({node}): {count} acknowledged, none missing; commits after {committing:.1f} s, all stream after {streaming:.1f} s", flush=True)
    return streaming


# ---- after a group


def logs_are_readable(cluster):
    """By name, as pg_waldump would otherwise take any file for the first: also one made ahead, which holds only zeros."""
    size = cluster.wal_segsize << 20
    for name in cluster.names:
        end = cluster.status(name)["replica"]["final_end"]
        number = (parse_lsn(end) - 1) // size
        tail = f"{number // (0x100000000 // size):08X}{number % (0x100000000 // size):08X}"
        files = cluster.log_files(name)
        last = next(path for path in files if path.name.endswith(tail))
        done = run(PG_BIN / "pg_waldump", "-q", "-e", end, files[0], last.name, check=False)
        check(done.returncode == 0, f"pg_waldump reads the log of {name} from {files[0].name} to {end} {done.stderr[:200]}")


def servers_are_sound(cluster):
    for server in (cluster.primary, *cluster.standbys.values()):
        done = run(PG_BIN / "pg_amcheck", "-h", cluster.sockets, "-p", server.port, "-U", PG_USER, "--heapallindexed", "-d", "postgres", check=False, timeout=300)
        check(done.returncode == 0, f"pg_amcheck is content with {server.name} {(done.stdout + done.stderr)[:300]}")


def inspect(cluster):
    identical(cluster)
    logs_are_readable(cluster)
    servers_are_sound(cluster)


# ---- the cluster


def mount_small_disk(directory):
    """In a mount namespace of our own: whatever happens, nothing stays mounted."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    image = directory.with_suffix(".image")
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    directory.mkdir()
    for command in (["mount", "--make-rprivate", "/"], ["mkfs.ext4", "-q", "-m", "0", "-b", "4096", image], ["mount", "-o", "loop", image, directory]):
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    shutil.chown(directory, PG_USER, PG_USER)


def has_small_disks(directory):
    if os.geteuid() != 0:
        return False
    try:
        mount_small_disk(directory)
        return True
    except (OSError, subprocess.CalledProcessError) as problem:
        shutil.rmtree(directory, ignore_errors=True)
        print(f"  skipped: disk_full, no file system of its own could be mounted ({getattr(problem, 'stderr', b'') or problem})")
        return False


def evidence(cluster):
    for node in ["p", *cluster.names]:
        Daemon(cluster, node).go_on()
        print(f"--- status of {node}: {cluster.status(node)}")
    for server in (cluster.primary, *cluster.standbys.values()):
        print(f"--- log of {server.name}\n{server.log.read_text()[-2000:] if server.log.exists() else ''}")


def play_matrix(rounds, cells=()):
    policy = random.choice(("ANY 1 (a, b)", "FIRST 1 (a, b)"))
    timeouts = {"wal_sender_timeout": "3s", "wal_receiver_timeout": "3s"}  # So that some stalls are longer, some shorter.
    # Nothing is removed from the logs: that would make room on a full disk.
    with Cluster(policy=policy, wal_segsize=1, keep={"a": "8GB", "b": "8GB"}, settings={**timeouts, "wal_keep_size": "2GB", "max_wal_size": "64MB"}) as cluster:
        small_disk = has_small_disks(cluster.dir / "replica_a")
        cluster.start()
        cluster.primary.sql("CREATE EXTENSION amcheck")
        print(f"  policy {policy}", flush=True)
        longest = {}
        try:
            for wanted in GROUPS.values():
                chosen = [name for name in wanted if (not cells or name in cells) and (name != "disk_full" or small_disk)]
                for _ in range(rounds):
                    for name in random.sample(chosen, len(chosen)):
                        longest[name] = max(longest.get(name, 0), play(cluster, name, wanted[name]))
                if chosen:
                    inspect(cluster)
        except Exception:
            evidence(cluster)
            raise
        slowest = max(longest, key=longest.get)
        print(f"  {rounds} rounds of {len(longest)} cells; the slowest recovery took {longest[slowest]:.1f} s ({slowest})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cell", action="append", default=[], choices=CELLS, help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CELLS))
        return 0
    if not (PG_BIN / "postgres").exists():
        print(f"PostgreSQL's programs are not in {PG_BIN}")
        return 77
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    random.seed(seed)
    print(f"kill_matrix (SEED={seed})", flush=True)
    try:
        play_matrix(arguments.rounds, arguments.cell)
    except Failure as failure:
        print(f"FAILED (SEED={seed}): {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A whole cluster on one host, the real thing: PostgreSQL, replicas, standbys, clients. Used by scripts/demo and the end-to-end tests.

Everything lives under one directory and runs as the user `postgres` (when started by root), so nothing outside it is touched. Only
processes started here are ever signalled, each by its own Popen.
"""

import atexit
import glob
import json
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PG_BIN = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))
SLIPSTREAM = Path(os.environ.get("SLIPSTREAM", ROOT / os.environ.get("BUILD_DIR", "build") / "app" / "slipstream"))
PG_USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def reachable_program(program):
    """The program where the user postgres can reach it: a checkout may lie below a directory that only root may enter."""
    if os.geteuid() != 0 or not program.exists():
        return program
    directory = Path(tempfile.mkdtemp(prefix="slip-bin-"))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(shutil.copy2(program, directory))


SLIPSTREAM = reachable_program(SLIPSTREAM)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that servers are stopped and directories removed.


class Failure(Exception):
    """Something that should hold does not; its text says what."""


def parse_lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(value):
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def as_pg_user():
    """Popen arguments that drop root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(PG_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env.update(LC_ALL="C", HOME="/tmp")
    return env


def run(*command, check=True, timeout=120, **kwargs):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                          env=environment(), cwd="/", **{**as_pg_user(), **kwargs})
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}\n  exited {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(what, condition, timeout=30, interval=0.05):
    """Polls until condition() is true; returns its value. Raises Failure with `what` on time-out."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"timed out after {timeout} s waiting for: {what}")
        time.sleep(interval)


def runs(pid):
    """Whether a process holds anything yet: one that ended and was not waited for by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process:
    """One process of the cluster, its output in a log file."""

    def __init__(self, name, command, log, cwd="/", user=True, netns=None):
        self.name, self.log = name, log
        command = [str(c) for c in command]
        if netns:
            command = ["ip", "netns", "exec", netns] + command
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment(), cwd=cwd,
                                          start_new_session=True, **(as_pg_user() if user else {}))

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self, timeout=20):
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not stop within {timeout} s of SIGTERM; its log: {self.log}")


class Postgres:
    """A PostgreSQL instance: primary or standby."""

    def __init__(self, name, directory, port, socket_directory):
        self.name, self.data, self.port, self.sockets = name, Path(directory), port, Path(socket_directory)
        self.process = None
        self.log = self.sockets / f"{name}.pg.log"

    @property
    def conninfo(self):
        return f"host={self.sockets} port={self.port} user={PG_USER} dbname=postgres"

    def initdb(self, settings, wal_segsize=16):
        run(PG_BIN / "initdb", "-D", self.data, "-A", "trust", "-U", PG_USER, "--wal-segsize", wal_segsize, "-k", "--no-sync", "-E", "UTF8")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write("\n".join(f"{key} = '{value}'" for key, value in settings.items()) + "\n")

    def start(self, wait=True, timeout=60):
        self.process = Process(self.name, [PG_BIN / "postgres", "-D", self.data], self.log)
        if wait:
            def answers():
                if not self.process.alive():
                    raise Failure(f"PostgreSQL {self.name} ended; its log: {self.log}\n{self.log.read_text()[-2000:]}")
                return run(PG_BIN / "pg_isready", "-q", "-h", self.sockets, "-p", self.port, check=False).returncode == 0
            wait_for(f"PostgreSQL {self.name} to accept connections", answers, timeout)

    def sql(self, query, check=True, timeout=60, database="postgres"):
        done = run(PG_BIN / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-p", self.port, "-U", PG_USER, "-d", database, "-c", query,
                   check=check, timeout=timeout)
        return done.stdout.strip()

    def stop(self, mode="fast", timeout=60):
        if not self.process or not self.process.alive():
            return
        self.process.signal({"fast": signal.SIGINT, "smart": signal.SIGTERM, "immediate": signal.SIGQUIT}[mode])
        try:
            self.process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"PostgreSQL {self.name} did not stop ({mode}) within {timeout} s")

    def kill(self):
        """SIGKILL of the postmaster and every backend of it."""
        if not self.process:
            return
        pids = [int(p) for p in subprocess.run(["pgrep", "-P", str(self.process.popen.pid)], stdout=subprocess.PIPE, text=True).stdout.split()]
        self.process.kill()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # The shared memory of killed backends must be gone before a restart.
        wait_for(f"{self.name}'s backends to end", lambda: not any(runs(p) for p in pids), 10, 0.01)

    def dump_hash(self):
        """Hash of an ordered dump: two databases with the same content have the same."""
        dump = (PG_BIN / "pg_dumpall", "-h", self.sockets, "-p", self.port, "-U", PG_USER, "--no-role-passwords")
        hashed = r"""set -o pipefail; "$@" | grep -av -e '^--' -e '^\\' -e '^$' | LC_ALL=C sort -S 200M | sha256sum"""
        return run("bash", "-c", hashed, "bash", *dump, timeout=600).stdout.split()[0]


class Cluster:
    """One primary and its replicas, each with a daemon, each replica with a standby."""

    def __init__(self, directory=None, policy="ANY 1 (a, b)", level="on", replicas=("a", "b"), faults=None, settings=None, wal_segsize=16,
                 ring="16MB", base_port=5440, hugepages="auto", idle="adaptive", mtu=int(os.environ.get("MTU", "1500")), ship=os.environ.get("SHIP", "flushed"), log_only=(), keep=None, keep_max=None, kernel_udp=(),
                 security="sealed", rekey_packets=None):
        self.dir = Path(directory or tempfile.mkdtemp(prefix="slip-"))
        self.policy, self.level, self.names, self.faults, self.mtu = policy, level, list(replicas), faults, mtu
        self.ship = ship
        self.ring, self.hugepages, self.idle, self.log_only = ring, hugepages, idle, set(log_only)
        self.wal_segsize, self.base_port = wal_segsize, base_port
        self.keep, self.keep_max = keep or {}, keep_max or {}  # Sizes by the replica's name.
        self.kernel_udp = set(kernel_udp)  # Replicas that are reached through the kernel.
        self.loopback = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}"  # Scenarios run side by side.
        self.sockets = self.dir / "s"
        self.security, self.rekey_packets = security, rekey_packets
        self.public_keys = {}
        self.daemons, self.clients = {}, []
        for path in (self.dir, self.sockets):
            path.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(path, PG_USER, PG_USER)
            path.chmod(0o755 if path == self.dir else 0o700)
        self.primary = Postgres("primary", self.dir / "primary", base_port, self.sockets)
        self.standbys = {n: Postgres(f"standby_{n}", self.dir / f"standby_{n}", base_port + 1 + i, self.sockets)
                         for i, n in enumerate(self.names) if n not in self.log_only}
        self.settings = {
            "listen_addresses": "", "unix_socket_directories": str(self.sockets), "port": str(base_port), "wal_level": "replica",
            "max_wal_senders": "8", "max_replication_slots": "8", "max_slot_wal_keep_size": "8GB", "shared_buffers": "64MB",
            "max_wal_size": "1GB", "log_min_messages": "warning", "synchronous_commit": level, "autovacuum": "off", **(settings or {})}

    # ---- configuration files

    def config_path(self, name):
        return self.dir / f"{name}.toml"

    def _nodes(self, name):
        out = ""
        for number, node in enumerate(["p"] + self.names, start=1):
            role = "primary" if node == "p" else "replica"
            key = f'public_key = "{self.public_keys[node]}"\n' if self.security == "sealed" else ""
            via = "" if node == name else f'via = "{"to_" + node if name == "p" else "to_p"}"\n' if (name == "p" or node == "p") else ""
            network = self.loopback if {node, name} & self.kernel_udp else "10.77.0"
            out += f'\n[[node]]\nname = "{node}"\nnumber = {number}\nrole = "{role}"\naddress = "{network}.{number}"\n{via}{key}'
        return out

    def _faults(self):
        return "[port.faults]\n" + "".join(f"{k} = {v}\n" for k, v in self.faults.items()) if self.faults else ""

    def _port(self, name, peer_of, number, role):
        faults = self._faults()
        if peer_of in self.kernel_udp:
            return f'\n[[port]]\nname = "{name}"\nkernel_udp = true\naddress = "{self.loopback}.{1 if role == "server" else number}"\n{faults}'
        socket = self.sockets / f"memif_{peer_of}.sock"
        index = self.names.index(peer_of)
        vdev = (f"net_memif{index if role == 'server' else 0},role={role},id=0,socket={socket},socket-abstract=no,"
                f"mac=02:00:00:00:0{1 if role == 'server' else 2}:{number:02x},rsize=11,bsize={2048 if self.mtu == 1500 else self.mtu + 216}")
        local = "10.77.0.1" if role == "server" else f"10.77.0.{number}"
        return f'\n[[port]]\nname = "{name}"\nvdev = "{vdev}"\naddress = "{local}"\nmtu = {self.mtu}\n{faults}'

    def _runtime(self, name):
        return (f'\n[runtime]\nhugepages = "{self.hugepages}"\nmemory_mb = {64 if self.mtu == 1500 else 256}\nring = "{self.ring}"\nidle = "{self.idle}"\n'
                f'file_prefix = "{self.dir.name}-{name}"\ncontrol_socket = "{self.sockets}/{name}.ctl"\n')

    def key_path(self, name):
        return self.dir / f"{name}.key"

    def make_key(self, name):
        self.key_path(name).unlink(missing_ok=True)
        made = run(SLIPSTREAM, "keygen", *(["--cluster"] if name == "cluster" else []), "--json", self.key_path(name)).stdout
        if os.geteuid() == 0:
            shutil.chown(self.key_path(name), PG_USER, PG_USER)
        self.public_keys[name] = json.loads(made).get("public_key")

    def write_configs(self):
        for name in ["cluster", "p"] + self.names if self.security == "sealed" else []:
            if name not in self.public_keys:
                self.make_key(name)
        for name in ["p"] + self.names:
            self.write_config(name)

    def write_config(self, name):
        text = f'name = "{name}"\nrole = "{"primary" if name == "p" else "replica"}"\nsecurity = "{self.security}"\n'
        if self.security == "sealed":
            text += f'\n[seal]\nhost_key = "{self.key_path(name)}"\ncluster_key = "{self.key_path("cluster")}"\n'
            text += f"rekey_packets = {self.rekey_packets}\n" if self.rekey_packets else ""
        if name == "p":
            text += f'\n[policy]\ncommit = \'{self.policy}\'\n'
            text += f'\n[primary]\nconninfo = "{self.primary.conninfo}"\nstate_directory = "{self.dir}/state_p"\nship = "{self.ship}"\n'
        else:
            standby = "" if name in self.log_only else f'standby_conninfo = "{self.standbys[name].conninfo}"\n'
            text += f'\n[replica]\ndirectory = "{self.dir}/replica_{name}"\n{standby}'
            for key, sizes in (("keep", self.keep), ("keep_max", self.keep_max)):
                if name in sizes:
                    text += f'{key} = "{sizes[name]}"\n'
            if name in self.log_only:
                text += "log_only = true\n"
            else:
                text += f'\n[replica.feed]\nsocket_directory = "{self.sockets}"\nport = {self.feed_port(name)}\nallow_users = ["{PG_USER}"]\n'
        text += self._runtime(name)
        if name == "p":
            for number, peer in enumerate(self.names, start=2):
                text += self._port(f"to_{peer}", peer, number, "server")
        else:
            text += self._port("to_p", name, self.names.index(name) + 2, "client")
        text += self._nodes(name)
        self.config_path(name).write_text(text)
        if os.geteuid() == 0:
            shutil.chown(self.config_path(name), PG_USER, PG_USER)

    def feed_port(self, name):
        return self.base_port + 20 + self.names.index(name)

    # ---- starting and stopping

    def start_primary(self):
        self.primary.initdb(self.settings, self.wal_segsize)
        self.primary.start()

    def init_replica(self, name):
        command = [SLIPSTREAM, "init-standby", "-c", self.config_path(name), "--primary", self.primary.conninfo]
        if name not in self.log_only:
            command += ["-D", self.standbys[name].data, "--port", self.standbys[name].port, "--set", "wal_retrieve_retry_interval=200ms"]
        run(*command, timeout=300)

    def start_daemon(self, name, extra=()):
        self.daemons[name] = Process(f"daemon {name}", [SLIPSTREAM, "run", "-c", self.config_path(name), *extra], self.dir / f"{name}.log")
        return self.daemons[name]

    def start(self, names=None):
        """From nothing to commits that wait on the quorum; of the replicas only `names`, if given."""
        names = names or self.names
        self.write_configs()
        self.start_primary()
        for name in names:
            self.init_replica(name)
        self.start_daemon("p")
        for name in names:
            self.start_daemon(name)
        for name, standby in self.standbys.items():
            if name in names:
                standby.start(wait=False)
        self.wait_streaming(names)
        self.require_quorum()

    def require_quorum(self):
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'slipstream'")
        self.primary.sql("SELECT pg_reload_conf()")

    def wait_streaming(self, names=None, timeout=60):
        names = names or self.names
        def all_streaming():
            for name in ["p"] + list(names):
                if name in self.daemons and not self.daemons[name].alive():
                    raise Failure(f"daemon {name} ended; its log:\n{self.daemon_log(name)}")
            status = self.status("p")
            if not status:
                return False
            views = {r["name"]: r for r in status["primary"]["replicas"]}
            return all(views[n]["state"] == "streaming" and views[n]["counts"] for n in names)
        try:
            wait_for(f"replicas {', '.join(names)} to stream and count", all_streaming, timeout, 0.1)
        except Failure as failure:
            raise Failure(f"{failure}\n{json.dumps(self.status('p'), indent=1)}") from None

    def status(self, name):
        done = run(SLIPSTREAM, "status", "-c", self.config_path(name), "--json", check=False, timeout=30)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def daemon_log(self, name, tail=3000):
        path = self.dir / f"{name}.log"
        return path.read_text()[-tail:] if path.exists() else ""

    def lose_primary(self):
        """Everything on the primary's side is gone for good, and its directories too."""
        self.primary.kill()
        self.daemons["p"].kill()
        shutil.rmtree(self.primary.data)
        shutil.rmtree(self.dir / "state_p")

    def close(self, keep=False):
        for client in self.clients:
            client.end()
        for daemon in self.daemons.values():
            daemon.kill()
        for server in [*self.standbys.values(), self.primary]:
            server.kill()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        keep = kind is not None and os.environ.get("KEEP")
        if kind is not None:
            for name in ["p"] + self.names:
                print(f"--- log of daemon {name}\n{self.daemon_log(name)}", flush=True)
        self.close(keep=bool(keep))

    # ---- comparing

    def flush_position(self):
        return self.primary.sql("SELECT pg_current_wal_flush_lsn()")

    def wait_replayed(self, position, names=None, timeout=60):
        for name in names or list(self.standbys):
            standby = self.standbys[name]
            wait_for(f"standby {name} to replay {position}",
                     lambda: standby.sql(f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)", check=False) == "t", timeout, 0.1)

    def standbys_identical(self):
        self.wait_replayed(self.flush_position())
        expected = self.primary.dump_hash()
        return all(standby.dump_hash() == expected for standby in self.standbys.values())

    def log_files(self, name):
        return sorted(p for p in (self.dir / f"replica_{name}" / "wal").iterdir() if re.fullmatch(r"[0-9A-F]{24}", p.name))

    def log_difference(self, name, reference=None, end=None):
        """None if the replica's segments equal the primary's up to what it holds as final, else a sentence."""
        end = end or parse_lsn(self.status(name)["replica"]["final_end"])
        size = self.wal_segsize << 20
        compared = 0
        # Where timelines share a segment the newest one's file holds all of it.
        for path in {path.name[8:]: path for path in self.log_files(name)}.values():
            number = int(path.name[8:16], 16) * (0x100000000 // size) + int(path.name[16:24], 16)
            begin = number * size
            if begin >= end:
                continue
            other = (reference or self.primary.data / "pg_wal") / path.name
            if not other.exists():
                continue
            count = min(size, end - begin)
            mine, theirs = path.read_bytes()[:count], other.read_bytes()[:count]
            if mine != theirs:
                at = next(i for i in range(count) if mine[i] != theirs[i])
                return f"replica {name} differs from the primary at {format_lsn(begin + at)} ({path.name})"
            compared += count
        return None if compared else f"replica {name}: no segment in common with the primary"


class IdLoad:
    """pgbench, whose own log (kept outside the database) tells which commits the client was told of.

    Each client inserts (client, n) for n = 1, 2, …; pgbench writes a log line when COMMIT has returned. So the acknowledged ids of a client are
    1 … its number of log lines.
    """

    runs = 0

    def __init__(self, cluster, clients=4, seconds=600, filler=100, rate=None):
        IdLoad.runs += 1
        self.run_id, self.clients, self.cluster = IdLoad.runs, clients, cluster
        self.dir = Path(tempfile.mkdtemp(prefix="slip-ids-"))
        atexit.register(self.remove)
        if os.geteuid() == 0:
            shutil.chown(self.dir, PG_USER, PG_USER)
        script = self.dir / "ids.sql"
        script.write_text(f"\\set n :n + 1\nINSERT INTO ids (run, client, n, filler) VALUES ({self.run_id}, :client_id, :n, repeat('x', {filler}));\n")
        script.chmod(0o644)
        cluster.primary.sql("CREATE TABLE IF NOT EXISTS ids (run int, client int, n bigint, filler text, PRIMARY KEY (run, client, n))")
        primary = cluster.primary
        self.process = Process("pgbench", [PG_BIN / "pgbench", "-n", "-h", primary.sockets, "-p", primary.port, "-U", PG_USER, "-f", script, "-D", "n=0",
                                           "-c", clients, "-j", 1, "-T", seconds, *(["-R", rate] if rate else []), "-l", f"--log-prefix={self.dir}/log", "postgres"],
                               self.dir / "pgbench.out", cwd=self.dir)
        self.started = time.time()
        cluster.clients.append(self)

    def end(self):
        """Ends its sessions, so that pgbench itself stops in order and writes out its log."""
        primary = self.cluster.primary
        if self.process.alive() and primary.process.alive():
            primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'", check=False)
            self.wait(5)
        if self.process.alive():
            self.process.kill()

    def wait(self, timeout):
        try:
            self.process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pass

    def lines(self):
        for path in glob.glob(f"{self.dir}/log.*"):
            for line in open(path):
                fields = line.split()
                if len(fields) >= 6:
                    yield int(fields[0]), int(fields[1]), int(fields[2]), int(fields[4]) + int(fields[5]) / 1e6

    def acknowledged(self):
        """{client: number of commits it was told of}."""
        told = {}
        for client, _, _, _ in self.lines():
            told[client] = told.get(client, 0) + 1
        return told

    def latencies_us(self, after=0.0, before=float("inf")):
        return sorted(us for _, _, us, at in self.lines() if after <= at < before)

    def lost(self, server):
        """Acknowledged ids that `server` does not have."""
        missing = []
        for client, count in self.acknowledged().items():
            have = {int(n) for n in server.sql(f"SELECT n FROM ids WHERE run = {self.run_id} AND client = {client}").split()}
            missing += [(self.run_id, client, n) for n in range(1, count + 1) if n not in have]
        return missing

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def quantile(sorted_values, q):
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))] if sorted_values else 0

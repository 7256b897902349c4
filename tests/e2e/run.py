"""End-to-end scenarios with real PostgreSQL, real daemons, real clients. `run.py NAME` runs one; without a name it lists them.

Each is registered with CTest by CMake, from the same list. Exit status 0: it holds; 1: it does not; 77: this machine lacks something (skipped).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cluster import (PG_BIN, PG_USER, ROOT, SLIPSTREAM, Cluster, Failure, IdLoad, Postgres, Process, as_pg_user, environment, format_lsn, parse_lsn, run,  # noqa: E402
                     wait_for)

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def check(condition, what):
    if not condition:
        raise Failure(what)
    print(f"  ok: {what}", flush=True)


class Commit:
    """One commit in a session of its own, under way."""

    def __init__(self, cluster, level=None):
        setting = f"SET synchronous_commit = {level};" if level else ""
        primary = cluster.primary
        self.popen = subprocess.Popen([str(PG_BIN / "psql"), "-XAtq", "-h", str(primary.sockets), "-p", str(primary.port), "-U", PG_USER, "-d", "postgres", "-c",
                                       f"{setting} CREATE TABLE IF NOT EXISTS commits (at timestamptz DEFAULT now()); INSERT INTO commits DEFAULT VALUES"],
                                      env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_pg_user())

    def returned(self, within):
        try:
            self.popen.wait(within)
            return True
        except subprocess.TimeoutExpired:
            return False


def pause(cluster, name):
    cluster.daemons[name].signal(signal.SIGSTOP)


def resume(cluster, name):
    cluster.daemons[name].signal(signal.SIGCONT)


# ---- Commits wait on the quorum


def waits_until(cluster, stopped, needed_back, level):
    """With `stopped` away a commit waits, also past wal_sender_timeout; with `needed_back` back it returns."""
    for name in stopped:
        pause(cluster, name)
    commit = Commit(cluster, level)
    check(not commit.returned(4), f"policy {cluster.policy}, level {level}: without {', '.join(stopped)} a commit waits")
    for name in needed_back:
        resume(cluster, name)
    check(commit.returned(20), f"policy {cluster.policy}, level {level}: with {', '.join(needed_back)} back it returns")
    for name in stopped:
        resume(cluster, name)
    cluster.wait_streaming()


def goes_on_without(cluster, stopped, level):
    pause(cluster, stopped)
    check(Commit(cluster, level).returned(10), f"policy {cluster.policy}, level {level}: commits go on without {stopped}")
    resume(cluster, stopped)
    cluster.wait_streaming()


def replay_pauses(cluster, names):
    """remote_apply in its own terms: durable is not enough."""
    for name in names:
        cluster.standbys[name].sql("SELECT pg_wal_replay_pause()")
    check(Commit(cluster, "on").returned(10), f"policy {cluster.policy}: with replay paused a commit at level on returns")
    commit = Commit(cluster, "remote_apply")
    check(not commit.returned(4), f"policy {cluster.policy}: with replay paused a commit at remote_apply waits")
    for name in names:
        cluster.standbys[name].sql("SELECT pg_wal_replay_resume()")
    check(commit.returned(20), f"policy {cluster.policy}: with replay resumed it returns")


def cluster_for_waiting(policy):
    return Cluster(policy=policy, settings={"wal_sender_timeout": "2s"}, base_port=next_port())


@scenario
def commits_wait_for_any():
    with cluster_for_waiting("ANY 1 (a, b)") as cluster:
        cluster.start()
        goes_on_without(cluster, "a", "on")
        for level in ("remote_write", "on", "remote_apply"):
            waits_until(cluster, ["a", "b"], ["b"], level)
        replay_pauses(cluster, ["a", "b"])


@scenario
def commits_wait_for_first():
    with cluster_for_waiting("FIRST 1 (a, b)") as cluster:
        cluster.start()
        goes_on_without(cluster, "a", "on")
        goes_on_without(cluster, "b", "on")
        waits_until(cluster, ["a", "b"], ["a"], "on")


@scenario
def commits_wait_for_both_terms():
    with cluster_for_waiting("ANY 1 (a) AND ANY 1 (b)") as cluster:
        cluster.start()
        for stopped in ("a", "b"):
            waits_until(cluster, [stopped], [stopped], "on")
        # Quorum lost for longer than two keepalives' time: nothing may raise the report.
        pause(cluster, "a")
        commit = Commit(cluster)
        check(not commit.returned(10), "after 10 s without the quorum, with wal_sender_timeout = 2s, the commit still waits")
        check(any("a" in sentence for sentence in cluster.status("p")["primary"]["waiting_for"]), "status names whom commits wait for")
        resume(cluster, "a")
        check(commit.returned(20), "with a back it returns")


@scenario
def stops_in_order():
    with Cluster(base_port=next_port()) as cluster:
        cluster.start()
        load = IdLoad(cluster, 2, 3)
        load.wait(20)
        begin = time.monotonic()
        cluster.primary.stop("fast", 30)
        check(time.monotonic() - begin < 20, f"PostgreSQL's fast stop ends ({time.monotonic() - begin:.1f} s)")
        cluster.primary.start()
        cluster.wait_streaming()
        check(Commit(cluster).returned(20), "after its restart commits go on, in a new epoch")
        check(cluster.daemons["p"].stop() == 0 and cluster.daemons["a"].stop() == 0, "daemons stop in order on SIGTERM with status 0")
        load.remove()


# ---- The primary is gone


def lose_and_promote(policy, level, members, options=()):
    """`members`: a minimal recovery set; the first of it with the better log is promoted."""
    with Cluster(policy=policy, level=level, base_port=next_port()) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 60)
        time.sleep(random.uniform(1.5, 3.5))
        cluster.lose_primary()
        load.wait(30)
        acknowledged = sum(load.acknowledged().values())
        check(acknowledged > 50, f"{policy}, {level}: {acknowledged} commits were acknowledged before the primary was lost")
        if len(members) == 2:
            refused = run(SLIPSTREAM, "promote", "-c", cluster.config_path("a"), check=False)
            check(refused.returncode == 7 and "no recovery set" in refused.stderr and "(a, b)" in refused.stderr, "promotion without a recovery set is refused by name")
        else:
            refused = run(SLIPSTREAM, "promote", "-c", cluster.config_path(members[0]), check=False)
            check(refused.returncode == 7 and "--sole-survivor" in refused.stderr, "promotion without a majority is refused by name")
        promoted = promote_best(cluster, members, options)
        server = cluster.standbys[promoted]
        check(server.sql("SELECT pg_is_in_recovery()") == "f", f"{promoted} was promoted")
        missing = load.lost(server)
        check(not missing, f"{policy}, {level}: none of {acknowledged} acknowledged commits is missing after promotion from ({', '.join(members)}): {missing[:5]}")
        check(promoted_takes_writes(server), "the promoted server's own commits do not hang")
        again = run(SLIPSTREAM, "promote", "-c", cluster.config_path(promoted), check=False)
        check(again.returncode == 7 and "promoted already" in again.stderr, "a second promotion there is refused by name")
        if len(members) == 2:
            other = "b" if promoted == "a" else "a"
            second = run(SLIPSTREAM, "promote", "-c", cluster.config_path(other), "--sole-survivor", "--accept-loss", check=False)
            check(second.returncode == 7 and f"to {promoted}" in second.stderr, "a second promotion elsewhere is refused and names the first candidate")
        load.remove()


def promote_best(cluster, members, options):
    for candidate, other in (("a", "b"), ("b", "a")):
        if candidate not in members:
            continue
        command = [SLIPSTREAM, "promote", "-c", cluster.config_path(candidate), "--supersede", *options]
        if other in members:
            evidence = cluster.sockets / f"{other}.evidence"
            run(SLIPSTREAM, "fence", "-c", cluster.config_path(other), "--candidate", candidate, "--supersede", "-o", evidence)
            command += ["--evidence", evidence]
        done = run(*command, check=False, timeout=180)
        if done.returncode == 0:
            return candidate
        if f"promote {other} instead" not in done.stderr:
            raise Failure(f"promote exited {done.returncode}\n{done.stdout}{done.stderr}")
    raise Failure("no member could be promoted")


def promoted_takes_writes(server):
    return server.sql("CREATE TABLE afterwards (); SELECT 'written'", timeout=20) == "written"


for policy_name, policy, recovery_set, options in (("any_1", "ANY 1 (a, b)", ["a", "b"], ()), ("any_2", "ANY 2 (a, b)", ["b"], ("--sole-survivor",)),
                                                    ("first_1", "FIRST 1 (a, b)", ["a", "b"], ())):
    for sync_level in ("on", "remote_apply"):
        SCENARIOS[f"primary_lost_{policy_name}_{sync_level}"] = (
            lambda policy=policy, level=sync_level, members=recovery_set, options=options: lose_and_promote(policy, level, members, options))


@scenario
def old_primary_comes_back():
    with Cluster(policy="ANY 1 (a, b)", base_port=next_port()) as cluster:
        cluster.start()
        load = IdLoad(cluster, 2, 3)
        load.wait(20)
        cluster.daemons["p"].kill()
        cluster.primary.kill()
        promoted = promote_best(cluster, ["a", "b"], ())
        cluster.primary.start(wait=False)
        wait_for("the old primary to start", lambda: cluster.primary.sql("SELECT 1", check=False) == "1", 60)
        cluster.start_daemon("p")
        superseded = wait_for("the old primary's daemon to notice", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "superseded" and s, 30)
        check("promised term" in superseded["primary"]["reason"] or "promoted" in superseded["primary"]["reason"], f"it is refused by name: {superseded['primary']['reason'][:120]}")
        check(not Commit(cluster).returned(4), "its commits wait")
        cluster.daemons["p"].kill()
        cluster.start_daemon("p")
        wait_for("the restarted daemon to know it still", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "superseded", 30)
        check(True, f"after a restart it knows that it was superseded ({promoted} is the primary)")
        load.remove()


# ---- Networks, catching up, identity


@scenario
def faults_lose_nothing():
    faults = {"loss": 0.01, "duplicate": 0.01, "reorder": 0.01, "seed": random.randrange(1 << 30)}
    print(f"  seed {faults['seed']}")
    with Cluster(policy="ANY 2 (a, b)", faults=faults, base_port=next_port()) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 8)
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('y', 500) FROM generate_series(1, 60000) g", timeout=120)
        load.wait(60)
        identical(cluster)
        views = cluster.status("p")["primary"]["replicas"]
        check(all(view["bytes_resent"] > 0 for view in views), "frames were lost and repaired")
        for view in views:
            print(f"  {view['name']}: {view['bytes_sent']} bytes sent, of these {view['bytes_resent']} again ({100 * view['bytes_resent'] / view['bytes_sent']:.2f} %)")
            check(view["bytes_resent"] < 0.04 * view["bytes_sent"], "repeats stay near what was lost")
        for server in cluster.standbys.values():
            check(not load.lost(server), f"every acknowledged commit is on {server.name}")
        load.remove()


def identical(cluster):
    end = cluster.flush_position()
    cluster.wait_replayed(end)
    check(cluster.standbys_identical(), "an ordered dump of each standby equals the primary's")
    for name in cluster.names:
        wait_for(f"the log of {name} to be final", lambda: parse_lsn(cluster.status(name)["replica"]["final_end"]) >= parse_lsn(end), 30)
        difference = cluster.log_difference(name)
        check(difference is None, difference or f"the log of {name} equals the primary's, byte for byte")


@scenario
def killed_replica_catches_up():
    with Cluster(policy="ANY 1 (a, b)", base_port=next_port()) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 14)
        time.sleep(1)
        cluster.daemons["b"].kill()
        # More than the ring holds, so that older segments must be read.
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('z', 500) FROM generate_series(1, 120000) g", timeout=120)
        cluster.primary.sql("SELECT pg_switch_wal()")
        cluster.start_daemon("b")
        cluster.wait_streaming()
        cluster.daemons["p"].kill()
        cluster.start_daemon("p")
        cluster.wait_streaming()
        load.wait(60)
        identical(cluster)
        switched = cluster.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        last = next(path for path in cluster.log_files("a") if path.name == switched)
        cluster.primary.sql("CREATE TABLE after_switch ()")
        dump = run(PG_BIN / "pg_waldump", "-q", last, check=False)
        check(dump.returncode == 0, f"pg_waldump reads a replica's segment {last.name} to its end {dump.stderr[:200]}")
        second = run(SLIPSTREAM, "run", "-c", cluster.config_path("a"), check=False, timeout=30)
        check(second.returncode == 5 and "is using the directory" in second.stderr, "a second daemon on the same directory is refused")
        load.remove()


@scenario
def pg_receivewal_streams_from_a_feed():
    with Cluster(base_port=next_port()) as cluster:
        cluster.start()
        target = cluster.sockets / "received"
        target.mkdir()
        shutil.chown(target, PG_USER, PG_USER)
        receiver = Process("pg_receivewal", [PG_BIN / "pg_receivewal", "-h", cluster.sockets, "-p", cluster.feed_port("a"), "-U", PG_USER, "-D", target, "--no-loop"], cluster.dir / "receivewal.log")
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('w', 500) FROM generate_series(1, 60000) g", timeout=120)
        switched = cluster.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        cluster.primary.sql("CREATE TABLE more AS SELECT 1")
        wait_for(f"pg_receivewal to finish {switched}", lambda: (target / switched).exists(), 60, 0.2)
        finished = sorted(p for p in target.iterdir() if not p.name.endswith(".partial"))
        for path in finished:
            check(path.read_bytes() == (cluster.primary.data / "pg_wal" / path.name).read_bytes(), f"{path.name} equals the primary's")
        receiver.stop()
        refused = run(PG_BIN / "pg_basebackup", "-h", cluster.sockets, "-p", cluster.feed_port("a"), "-U", PG_USER, "-D", cluster.sockets / "bb", check=False)
        check(refused.returncode != 0 and "base backups" in refused.stderr, "pg_basebackup is told that a feed makes no base backups")


@scenario
def a_new_policy_works_as_the_stricter_of_both():
    with Cluster(policy="ANY 1 (a, b)", base_port=next_port()) as cluster:
        cluster.start()
        cluster.daemons["p"].stop()
        pause(cluster, "a")
        cluster.policy = "FIRST 1 (b)"
        cluster.write_config("p")
        cluster.start_daemon("p")
        cluster.wait_streaming(["b"])
        check(Commit(cluster).returned(20), "b satisfies the old policy and the new one")
        resume(cluster, "a")
        check(cluster.status("p")["primary"]["policy"] == "FIRST 1 (b)", "the new policy is in force")
        pause(cluster, "a")
        check(Commit(cluster).returned(10), "commits no longer need a")
        resume(cluster, "a")
        pause(cluster, "b")
        check(not Commit(cluster).returned(4), "but they need b")
        resume(cluster, "b")


# ---- af_packet between two network namespaces


class Namespaces:
    """Two network namespaces joined by a veth pair."""

    def __init__(self, tag):
        self.names = (f"slip{tag}p", f"slip{tag}a")
        self.links = (f"sl{tag}p", f"sl{tag}a")

    def __enter__(self):
        def ip(*arguments):
            subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for name, link in zip(self.names, self.links):
            ip("link", "set", link, "netns", name)
            ip("-n", name, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


class PacketCluster(Cluster):
    """The same cluster over af_packet: daemons in namespaces of their own, as root."""

    namespaces = None

    def status(self, name):
        done = run(SLIPSTREAM, "status", "-c", self.config_path(name), "--json", check=False, timeout=30, user=0, group=0)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def _port(self, name, peer_of, number, role):
        link = self.namespaces.links[0 if role == "server" else 1]
        local = "10.77.0.1" if role == "server" else f"10.77.0.{number}"
        return f'\n[[port]]\nname = "{name}"\nvdev = "net_af_packet0,iface={link},blocksz=4096,framesz=2048,framecnt=2048,qpairs=1"\naddress = "{local}"\n'

    def start_daemon(self, name, extra=()):
        namespace = self.namespaces.names[0 if name == "p" else 1]
        command = ["ip", "netns", "exec", namespace, SLIPSTREAM, "run", "-c", self.config_path(name), *extra]
        self.daemons[name] = Process(f"daemon {name}", command, self.dir / f"{name}.log", user=False)
        return self.daemons[name]


@scenario
def af_packet_between_namespaces():
    if os.geteuid() != 0:
        print("needs root for network namespaces")
        sys.exit(77)
    with Namespaces(os.getpid() % 1000) as namespaces:
        PacketCluster.namespaces = namespaces
        with PacketCluster(policy="ANY 1 (a)", replicas=("a",), base_port=next_port()) as cluster:
            cluster.start()
            load = IdLoad(cluster, 4, 5)
            load.wait(40)
            identical(cluster)
            check(sum(load.acknowledged().values()) > 50, "commits waited on the quorum over af_packet")
            load.remove()


# ---- Bad input


def refusal(cluster, name, code, *parts, config=None, extra=()):
    done = run(SLIPSTREAM, "run", "-c", config or cluster.config_path(name), *extra, check=False, timeout=40)
    check(done.returncode == code and all(part in done.stderr for part in parts), f"exit {code}: {done.stderr.strip().splitlines()[-2:]}" if done.returncode == code else
          f"expected exit {code} with {parts}, got {done.returncode}: {done.stderr}")


def changed(cluster, name, before, after):
    text = cluster.config_path(name).read_text()
    if before not in text:
        raise Failure(f"{before!r} is not in {name}.toml")
    path = cluster.dir / "changed.toml"
    path.write_text(text.replace(before, after))
    return path


@scenario
def bad_input_is_named():
    with Cluster(base_port=next_port(), replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.write_configs()
        refusal(cluster, "p", 4, "is PostgreSQL running there")
        refusal(cluster, "a", 5, "not a replica's directory", "init-standby")
        cluster.start_primary()
        sql = cluster.primary.sql
        refusal(cluster, "p", 3, "unknown replica", config=changed(cluster, "p", "ANY 1 (a)", "ANY 1 (aa)"))
        refusal(cluster, "p", 3, "unknown key", "did you mean", config=changed(cluster, "p", "conninfo", "coninfo"))
        refusal(cluster, "p", 6, "no driver", config=changed(cluster, "p", "net_memif0,", "net_nosuch0,"))
        refusal(cluster, "p", 5, "WAL directory", config=changed(cluster, "p", "[primary]", "[primary]\nwal_directory = \"/nonexistent\""))
        sql("CREATE ROLE weak LOGIN")
        refusal(cluster, "p", 4, "REPLICATION", config=changed(cluster, "p", f"user={PG_USER}", "user=weak"))
        sql("ALTER SYSTEM SET max_slot_wal_keep_size = -1")
        sql("SELECT pg_reload_conf()")
        time.sleep(0.5)
        refusal(cluster, "p", 4, "max_slot_wal_keep_size", "ALTER SYSTEM")
        sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        sql("SELECT pg_reload_conf()")
        sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        sql("ALTER SYSTEM SET wal_level = minimal")
        sql("ALTER SYSTEM SET max_wal_senders = 0")
        cluster.primary.stop()
        cluster.primary.start()
        refusal(cluster, "p", 4, "wal_level")
        sql("ALTER SYSTEM RESET wal_level")
        cluster.primary.stop()
        cluster.primary.start()
        refusal(cluster, "p", 4, "max_wal_senders")
        sql("ALTER SYSTEM RESET max_wal_senders")
        cluster.primary.stop()
        cluster.primary.start()
        wrong_password(cluster)
        damaged_files(cluster)
        another_cluster(cluster)


def wrong_password(cluster):
    hba = cluster.primary.data / "pg_hba.conf"
    before = hba.read_text()
    cluster.primary.sql("CREATE ROLE locked LOGIN REPLICATION PASSWORD 'right'")
    hba.write_text("local all locked scram-sha-256\nlocal replication locked scram-sha-256\n" + before)
    cluster.primary.sql("SELECT pg_reload_conf()")
    time.sleep(0.5)
    refusal(cluster, "p", 4, "password", config=changed(cluster, "p", f"user={PG_USER}", "user=locked password=wrong"))
    hba.write_text(before)
    cluster.primary.sql("SELECT pg_reload_conf()")


def damaged_files(cluster):
    cluster.init_replica("a")
    state = cluster.dir / "replica_a" / "state"
    whole = state.read_bytes()
    for damaged in (whole[:-5], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]):
        state.write_bytes(damaged)
        refusal(cluster, "a", 5, "state file")
    state.write_bytes(whole)
    again = run(SLIPSTREAM, "init-standby", "-c", cluster.config_path("a"), "--primary", cluster.primary.conninfo, "-D", cluster.standbys["a"].data, check=False)
    check(again.returncode == 5 and "already" in again.stderr, "init-standby over a replica is refused")


def another_cluster(cluster):
    """A primary's state directory meets a PostgreSQL of another system identifier."""
    cluster.start_daemon("p")
    wait_for("the daemon to run", lambda: cluster.status("p"), 20)
    wait_for("its state to be written", lambda: (cluster.dir / "state_p" / "state").exists(), 20)
    cluster.daemons["p"].stop()
    cluster.primary.stop()
    shutil.rmtree(cluster.primary.data)
    cluster.primary.initdb(cluster.settings)
    cluster.primary.start()
    refusal(cluster, "p", 5, "system identifier")


def next_port():
    """Sockets live in a directory of their own; the number only has to be a port."""
    return 5440


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in SCENARIOS:
        print("\n".join(SCENARIOS))
        return 0 if len(sys.argv) == 1 else 2
    if not (PG_BIN / "postgres").exists():
        print(f"PostgreSQL's programs are not in {PG_BIN}")
        return 77
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    random.seed(seed)
    print(f"{sys.argv[1]} (SEED={seed})", flush=True)
    try:
        SCENARIOS[sys.argv[1]]()
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

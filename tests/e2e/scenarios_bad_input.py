"""Bad input is named: what, where, what to do, and the documented exit code. Command lines, configurations, what PostgreSQL lacks."""

import shutil
import time

from cluster import PG_BIN, PG_USER, SLIPSTREAM, Cluster, Postgres, Process, run, wait_for
from scenario import changed, check, refusal, refused, scenario


@scenario
def bad_command_lines_are_named():
    with Cluster(replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.write_configs()
        config = cluster.config_path("a")
        refused(2, "subcommand is required")
        refused(2, "--frobnicate", arguments=["run", "-c", config, "--frobnicate"])
        refused(2, "--config is required", arguments=["run"])
        refused(2, "no such command: promot", "did you mean promote", arguments=["promot", "-c", config])
        refused(2, "--claim-term", arguments=["run", "-c", config, "--claim-term", "three"])
        refused(2, "--claim-term is for a primary", arguments=["run", "-c", config, "--claim-term", "3"])
        refused(2, "primary's configuration", "give the replica's", arguments=["init-standby", "-c", cluster.config_path("p"), "--primary", "x", "-D", "/x"])
        refused(2, "--pgdata is missing", arguments=["init-standby", "-c", config, "--primary", "host=/nonexistent"])
        refused(2, "primary's configuration", arguments=["fence", "-c", cluster.config_path("p"), "--candidate", "a"])
        refused(5, "not a replica's directory", "init-standby", arguments=["position", cluster.dir])
        refused(8, "is the daemon running", arguments=["status", "-c", config])
        for command in ("", "run", "config check", "init-standby", "status", "position", "fence", "promote"):
            done = run(SLIPSTREAM, *command.split(), "--help", check=False)
            check(done.returncode == 0 and "Usage" in done.stdout, f"slipstream {command} --help exits 0")


@scenario
def bad_configurations_are_named():
    with Cluster(replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.write_configs()
        lines = cluster.config_path("p").read_text().splitlines()
        line = lines.index("[primary]") + 2  # conninfo's, counted from 1.
        refused(3, "No such file", "configs/", arguments=["run", "-c", cluster.dir / "nonexistent.toml"])
        refused(3, "directory", "name an existing, readable file", arguments=["run", "-c", cluster.dir])
        unreadable = changed(cluster, "p", "name", "name")
        unreadable.chmod(0)
        refusal(cluster, "p", 3, "Permission denied", config=unreadable)
        unreadable.unlink()
        refusal(cluster, "p", 3, f"changed.toml:{line}:", "mend the TOML", config=changed(cluster, "p", "conninfo = ", "conninfo "))
        refusal(cluster, "p", 3, f"changed.toml:{line}:1", "unknown key", "did you mean \"conninfo\"", config=changed(cluster, "p", "conninfo", "coninfo"))
        refusal(cluster, "p", 3, "memory_mb", "whole number", config=changed(cluster, "p", "memory_mb = 64", "memory_mb = \"64\""))
        refusal(cluster, "p", 3, "65 MO", "kB, MB, GB", config=changed(cluster, "p", "ring = \"16MB\"", "ring = \"65 MO\""))
        refusal(cluster, "p", 3, "adaptve", "adaptive", config=changed(cluster, "p", "idle = \"adaptive\"", "idle = \"adaptve\""))
        refusal(cluster, "p", 3, "unknown replica", "did you mean", "policy.commit", config=changed(cluster, "p", "ANY 1 (a)", "ANY 1 (aa)"))
        refusal(cluster, "p", 3, "to_b", "is no [[port]] here", "did you mean \"to_a\"", config=changed(cluster, "p", "via = \"to_a\"", "via = \"to_b\""))
        refusal(cluster, "p", 3, "security", "plaintext", config=changed(cluster, "p", "\"sealed\"", "\"none\""))
        refusal(cluster, "a", 3, "replica.directory", config=changed(cluster, "a", f"directory = \"{cluster.dir}/replica_a\"\n", ""))


@scenario
def bad_postgresql_is_named():
    with Cluster(replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.write_configs()
        refusal(cluster, "p", 4, "is PostgreSQL running there")
        cluster.start_primary()
        sql = cluster.primary.sql
        refusal(cluster, "p", 6, "no driver", config=changed(cluster, "p", "net_memif0,", "net_nosuch0,"))
        refusal(cluster, "p", 4, "does not exist", "CREATE ROLE", config=changed(cluster, "p", f"user={PG_USER}", "user=nobody_here"))
        sql("CREATE ROLE weak LOGIN")
        refusal(cluster, "p", 4, "REPLICATION", config=changed(cluster, "p", f"user={PG_USER}", "user=weak"))
        wrong_password(cluster)
        setting(cluster, "max_slot_wal_keep_size = -1", restart=False)
        refusal(cluster, "p", 4, "max_slot_wal_keep_size", "ALTER SYSTEM")
        setting(cluster, "max_slot_wal_keep_size = '8GB'", restart=False)
        setting(cluster, "fsync = off", restart=False)
        refusal(cluster, "p", 4, "fsync is off")
        setting(cluster, "fsync = on", restart=False)
        no_free_walsender(cluster)
        sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        sql("ALTER SYSTEM SET wal_level = minimal")
        setting(cluster, "max_wal_senders = 0")
        refusal(cluster, "p", 4, "wal_level", "ALTER SYSTEM SET wal_level = replica")
        setting(cluster, "wal_level = replica")
        refusal(cluster, "p", 4, "max_wal_senders is 0")


def setting(cluster, assignment, restart=True):
    cluster.primary.sql(f"ALTER SYSTEM SET {assignment}")
    if restart:
        cluster.primary.stop()
        cluster.primary.start()
    else:
        cluster.primary.sql("SELECT pg_reload_conf()")
        time.sleep(0.5)


def wrong_password(cluster):
    hba = cluster.primary.data / "pg_hba.conf"
    before = hba.read_text()
    cluster.primary.sql("CREATE ROLE locked LOGIN REPLICATION PASSWORD 'right'")
    hba.write_text("local all locked scram-sha-256\nlocal replication locked scram-sha-256\n" + before)
    cluster.primary.sql("SELECT pg_reload_conf()")
    time.sleep(0.5)
    refusal(cluster, "p", 4, "password authentication failed", "passfile", config=changed(cluster, "p", f"user={PG_USER}", "user=locked password=wrong"))
    refusal(cluster, "p", 4, "no password supplied", config=changed(cluster, "p", f"user={PG_USER}", "user=locked"))
    uri = changed(cluster, "p", cluster.primary.conninfo, f"postgresql://locked:sec%72et@/postgres?host={cluster.sockets}&port={cluster.primary.port}")
    said = refusal(cluster, "p", 4, "password authentication failed", config=uri)
    check("sec" not in said, "a password is never shown")
    hba.write_text(before)
    cluster.primary.sql("SELECT pg_reload_conf()")


def no_free_walsender(cluster):
    """`config check` refuses; a running daemon says why it waits, and goes on by itself when there is one."""
    setting(cluster, "max_wal_senders = 1")
    target = cluster.sockets / "received"
    target.mkdir()
    shutil.chown(target, PG_USER)
    other = Process("pg_receivewal", [PG_BIN / "pg_receivewal", "-h", cluster.sockets, "-p", cluster.primary.port, "-U", PG_USER, "-D", target], cluster.dir / "receivewal.log")
    wait_for("pg_receivewal to take the only walsender", lambda: cluster.primary.sql("SELECT count(*) FROM pg_stat_replication") == "1", 20)
    refused(4, "no free walsender", "max_wal_senders", arguments=["config", "check", "-c", cluster.config_path("p"), "--connect"])
    cluster.start_daemon("p")
    status = wait_for("the daemon to say so", lambda: (s := cluster.status("p")) and s["warnings"] and s, 20)
    check(any("max_wal_senders" in each and "to do" in each for each in status["warnings"]) and status["primary"]["state"] == "no_database",
          f"status names it: {status['primary']['state']}, {status['warnings']}")
    other.stop()
    wait_for("the daemon to go on by itself", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "running", 20)
    check(run(SLIPSTREAM, "config", "check", "-c", cluster.config_path("p"), "--connect", check=False).returncode == 0, "with a walsender free again the daemon runs, and its own counts as free")
    cluster.daemons["p"].stop()
    setting(cluster, "max_wal_senders = 8")


@scenario
def another_cluster_is_named():
    """Directories and servers that do not belong together."""
    with Cluster(replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.write_configs()
        cluster.start_primary()
        other = Postgres("other", cluster.dir / "other", cluster.base_port + 9, cluster.sockets)
        other.initdb({**cluster.settings, "port": other.port}, wal_segsize=1)
        other.start()
        try:
            replica_of_another_cluster(cluster, other)
            wal_of_another_cluster(cluster, other)
        finally:
            other.kill()
        another_server(cluster)


def replica_of_another_cluster(cluster, other):
    run(SLIPSTREAM, "init-standby", "-c", cluster.config_path("a"), "--primary", other.conninfo, "-D", cluster.standbys["a"].data, "--port", cluster.standbys["a"].port, timeout=120)
    cluster.start_daemon("p")
    cluster.start_daemon("a")
    systems = [server.sql("SELECT system_identifier FROM pg_control_system()") for server in (cluster.primary, other)]
    def named(reason):
        return all(system in reason for system in systems)
    view = wait_for("the primary to show it", lambda: (s := cluster.status("p")) and (v := s["primary"]["replicas"][0])["state"] == "refused" and v, 20)
    check(named(view["reason"]) and not view["counts"], f"the primary's status: {view['reason']}")
    own = wait_for("the replica to show it", lambda: (s := cluster.status("a")) and (v := s["replica"])["state"] == "refused" and v, 20)
    check(named(own["reason"]), f"the replica's status: {own['reason']}")
    cluster.daemons["a"].stop()
    cluster.daemons["p"].stop()
    shutil.rmtree(cluster.dir / "replica_a")
    shutil.rmtree(cluster.standbys["a"].data)


def wal_of_another_cluster(cluster, other):
    def wal_directory(path):
        return changed(cluster, "p", "[primary]", f"[primary]\nwal_directory = \"{path}\"")
    refusal(cluster, "p", 5, "wrong segment size", "SHOW wal_segment_size", config=wal_directory(other.data / "pg_wal"))
    refusal(cluster, "p", 5, "no WAL directory", config=wal_directory("/nonexistent"))
    refusal(cluster, "p", 5, "no WAL segments in it", config=wal_directory(cluster.primary.data / "base"))
    refusal(cluster, "p", 5, "not a directory", config=wal_directory(cluster.primary.data / "PG_VERSION"))
    closed = cluster.sockets / "closed"
    shutil.copytree(cluster.primary.data / "pg_wal", closed)
    closed.chmod(0)
    refusal(cluster, "p", 5, "the user that owns the directory", config=wal_directory(closed))
    closed.chmod(0o700)


def another_server(cluster):
    """The primary's state directory meets other segments, then another system identifier."""
    cluster.start_daemon("p")
    wait_for("the daemon to run", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "running", 20)
    second = run(SLIPSTREAM, "run", "-c", cluster.config_path("p"), check=False, timeout=30)
    check(second.returncode == 5 and "is using the directory" in second.stderr and "pid" in second.stderr, "a second primary's daemon on the same directory is refused")
    cluster.daemons["p"].stop()
    moved = cluster.dir / "moved"
    cluster.primary.stop()
    shutil.copytree(cluster.primary.data, moved)
    run("chown", "-R", PG_USER, moved, user=None, group=None, extra_groups=None)
    run(PG_BIN / "pg_resetwal", "-f", "--wal-segsize", 32, "-D", cluster.primary.data)
    cluster.primary.start()
    refusal(cluster, "p", 5, "segments of 16777216 bytes", "33554432", "wal_segment_size")
    cluster.primary.stop()
    shutil.rmtree(cluster.primary.data)
    moved.rename(cluster.primary.data)
    cluster.primary.start()
    refusal(cluster, "p", 5, "another data directory", "--claim-term")
    cluster.primary.stop()
    shutil.rmtree(cluster.primary.data)
    cluster.primary.initdb(cluster.settings)
    cluster.primary.start()
    refusal(cluster, "p", 5, "system identifier", "state_directory")

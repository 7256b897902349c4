"""`slipstream restore`: a replica's log serves as an archive, for a server that unmodified PostgreSQL recovers from it."""

import os
import shutil

from cluster import PG_BIN, SLIPSTREAM, Cluster, Postgres, as_pg_user, parse_lsn, run, wait_for
from scenario import check, identical, refused, scenario
from scenarios_replica_log import flip, ledgers_of, segment_at, switch_segment, write_wal


def restored_server(cluster, base, name, source):
    """A copy of the backup that recovers to the archive's end and becomes a server of its own."""
    server = Postgres(name, cluster.dir / f"pg_{name}", cluster.primary.port, cluster.dir / f"sockets_{name}")
    server.sockets.mkdir()
    run("cp", "-a", base, server.data)
    if os.geteuid() == 0:
        shutil.chown(server.sockets, as_pg_user()["user"], as_pg_user()["group"])
    with open(server.data / "postgresql.auto.conf", "a") as conf:
        conf.write(f"restore_command = '{SLIPSTREAM} restore {source} %f %p'\nunix_socket_directories = '{server.sockets}'\nsynchronous_standby_names = ''\n")
    (server.data / "recovery.signal").touch()
    return server


def recovers(cluster, base, name, source, wanted):
    server = restored_server(cluster, base, name, source)
    try:
        server.start()
        wait_for(f"{name} to end its recovery", lambda: server.sql("SELECT pg_is_in_recovery()") == "f")
        check(server.sql("SELECT count(*) FROM big") == wanted, f"{name}: recovered from a's log alone, all {wanted} rows are there")
        check(server.sql("SELECT timeline_id FROM pg_control_checkpoint()") == "2", "it went on on a timeline of its own")
    finally:
        server.stop("immediate")


def stops_at_damage(cluster, base, padding):
    """Damage that no record's checksum covers."""
    segment, offset = segment_at(cluster, "a", padding)
    check(segment.name in ledgers_of(cluster.dir / "replica_a" / "ledger"), "the switched segment has a ledger")
    flip(segment, offset)
    server = restored_server(cluster, base, "damaged", f"-c {cluster.config_path('a')}")
    server.start(wait=False)
    server.process.popen.wait(60)
    said = server.log.read_text()
    check(server.process.popen.returncode != 0 and "differs from its ledger" in said and f'could not restore file "{segment.name}"' in said,
          "a damaged segment ends the recovery; it is not taken for the end of the archive")
    flip(segment, offset)


def refusals(cluster):
    wanted = cluster.dir / "wanted"
    refused(255, "not a name that PostgreSQL asks", arguments=["restore", "-c", cluster.config_path("a"), "../state", wanted])
    refused(255, "primary's configuration", arguments=["restore", "-c", cluster.config_path("p"), "00000002.history", wanted])
    refused(255, "not a replica's directory", arguments=["restore", "--directory", cluster.dir, "00000002.history", wanted])
    refused(255, arguments=["restore", "00000002.history", wanted])
    refused(1, "not held", arguments=["restore", "-c", cluster.config_path("a"), "00000002.history", wanted])
    refused(1, "the log begins at", arguments=["restore", "-c", cluster.config_path("a"), "000000010000000000000001", wanted])
    refused(1, "is final", arguments=["restore", "-c", cluster.config_path("a"), "000000010000000900000001", wanted])
    check(not wanted.exists(), "nothing of that left a file")


@scenario
def a_log_serves_as_an_archive():
    with Cluster(replicas=("a",), policy="ANY 1 (a)", wal_segsize=1) as cluster:
        cluster.start()
        write_wal(cluster, 2)
        base = cluster.dir / "base"
        run(PG_BIN / "pg_basebackup", "-D", base, "-X", "none", "-c", "fast", "-h", cluster.primary.sockets, "-p", cluster.primary.port)
        write_wal(cluster, 4)
        padding = switch_segment(cluster)
        write_wal(cluster, 1)
        wanted = cluster.primary.sql("SELECT count(*) FROM big")
        last = parse_lsn(cluster.primary.sql("SELECT pg_switch_wal()"))
        cluster.primary.sql("CREATE TABLE behind_the_last_whole_segment ()")
        name = segment_at(cluster, "a", last)[0].name
        wait_for("the last segment to have a ledger", lambda: name in ledgers_of(cluster.dir / "replica_a" / "ledger"), 30)
        refusals(cluster)
        recovers(cluster, base, "live", f"-c {cluster.config_path('a')}", wanted)
        stops_at_damage(cluster, base, padding)
        identical(cluster)
        cluster.daemons["a"].stop()
        recovers(cluster, base, "stopped", f"--directory {cluster.dir / 'replica_a'}", wanted)

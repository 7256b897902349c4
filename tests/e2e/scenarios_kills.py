"""Everything that can die or stall does: two rounds of the kill matrix. Its long form is kill_matrix.py --rounds N."""

import os
import shutil

from cluster import Cluster, as_pg_user, parse_lsn, run, wait_for
from kill_matrix import play_matrix
from scenario import Commit, changed, check, identical, scenario


@scenario
def kill_matrix():
    play_matrix(2)


def lose_wal(cap_mb, written_mb, wal_segsize):
    """The primary's daemon is dead for longer than the slot keeps WAL."""
    with Cluster(wal_segsize=wal_segsize) as cluster:
        archive = cluster.dir / "archive"
        archive.mkdir()
        if os.geteuid() == 0:
            shutil.chown(archive, as_pg_user()["user"], as_pg_user()["group"])
        cluster.settings.update({"max_slot_wal_keep_size": f"{cap_mb}MB", "max_wal_size": f"{8 * wal_segsize}MB", "min_wal_size": f"{2 * wal_segsize}MB",
                                 "archive_mode": "on", "archive_command": f"cp %p {archive}/%f"})
        cluster.start()
        sql = cluster.primary.sql
        sql("CREATE TABLE big (filler text)")
        write_without_daemon(cluster, written_mb)
        kept = sum(path.stat().st_size for path in (cluster.primary.data / "pg_wal").glob("0*"))
        check(kept <= (cap_mb + 16 * wal_segsize) << 20, f"{written_mb} MB were written without the daemon; PostgreSQL runs on and keeps {kept >> 20} MB of WAL with a cap of {cap_mb} MB")
        check(sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'slipstream'") == "lost", "the slot has given up")
        cluster.start_daemon("p")
        gone = wait_for("status to say that the WAL is gone", lambda: (s := cluster.status("p")) and [r for r in s["primary"]["replicas"] if "the WAL you need is gone" in r["reason"]], 30)
        check(all(r["state"] == "refused" and "init-standby" in r["reason"] for r in gone), f"the state is named, with its remedy: {gone[0]['reason']}")
        for path in sorted(archive.iterdir()):
            target = cluster.primary.data / "pg_wal" / path.name
            if not target.exists():
                run("cp", "-p", path, target)
        cluster.wait_streaming()
        check(Commit(cluster).returned(20), "with the segments back from the archive the replicas catch up, and commits go on")
        identical(cluster)
        slot = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'slipstream'"
        wait_for(f"the slot to keep WAL again: {sql(slot)}", lambda: sql(slot) in ("reserved", "extended"), 20)
        check(True, "the slot keeps WAL again")
        comes_from_the_archive(cluster, archive, written_mb)


def write_without_daemon(cluster, written_mb):
    cluster.daemons["p"].kill()
    begin = parse_lsn(cluster.flush_position())
    while parse_lsn(cluster.flush_position()) - begin < written_mb << 20:
        cluster.primary.sql("SET synchronous_commit = local; INSERT INTO big SELECT repeat('w', 500) FROM generate_series(1, 20000)", timeout=120)
    cluster.primary.sql("CHECKPOINT", timeout=120)


def comes_from_the_archive(cluster, archive, written_mb):
    """The same again, now with primary.restore_command: nobody has to do anything."""
    write_without_daemon(cluster, written_mb)
    config = changed(cluster, "p", "[primary]", f"[primary]\nrestore_command = 'cp {archive}/%f %p'")
    config.replace(cluster.config_path("p"))
    cluster.start_daemon("p")
    cluster.wait_streaming()
    check("came from the archive" in cluster.daemon_log("p", 100000) and "is gone" not in cluster.daemon_log("p", 100000).split("system")[-1], "with primary.restore_command the replicas catch up by themselves")
    restored = list((cluster.dir / "state_p" / "restored").glob("0*"))
    check(len(restored) <= 9, f"{len(restored)} segments lie there, not all that came")
    check(Commit(cluster).returned(20), "commits go on")
    identical(cluster)


@scenario
def the_wal_a_replica_needs_is_gone():
    lose_wal(32, 100, 1)

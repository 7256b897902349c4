"""The feed: everyone who may read from a replica, what it no longer has, and standbys that outlive their replica's log."""

import os
import shutil
import signal
import time

from cluster import PG_BIN, PG_USER, SLIPSTREAM, Cluster, IdLoad, Postgres, Process, parse_lsn, run, wait_for
from scenario import Commit, check, identical, refusal, refused, scenario
from scenarios_replica_log import MB, segment_at, write_wal


def feed(cluster, name):
    return cluster.status(name)["replica"]["feed"]


def second_standby(cluster, of):
    """Another standby on the same feed, from a copy of the stopped first one."""
    first = cluster.standbys[of]
    second = Postgres("second", cluster.dir / "second", first.port + 10, cluster.sockets)
    first.stop()
    run("cp", "-a", first.data, second.data)
    with open(second.data / "postgresql.auto.conf", "a") as conf:
        conf.write(f"port = {second.port}\nprimary_conninfo = 'host={cluster.sockets} port={cluster.feed_port(of)} user={PG_USER} application_name=second'\n")
    first.start()
    wait_for("the first to stream again", lambda: feed(cluster, of)["state"] == "streaming", 20)
    second.start()
    return second


def receiver(cluster, name, port):
    target = cluster.sockets / name
    target.mkdir()
    shutil.chown(target, PG_USER, PG_USER)
    command = [PG_BIN / "pg_receivewal", "-h", cluster.sockets, "-p", port, "-U", PG_USER, "-D", target, "--no-loop"]
    return target, Process(name, command, cluster.dir / f"{name}.log")


@scenario
def a_feed_serves_all_who_ask():
    """Two standbys and pg_receivewal on one feed, pg_receivewal behind one of the standbys; one standby dies between its restart points."""
    with Cluster(replicas=("a",), policy="ANY 1 (a)", wal_segsize=1) as cluster:
        cluster.start()
        first, second = cluster.standbys["a"], second_standby(cluster, "a")
        try:
            direct, reads_feed = receiver(cluster, "direct", cluster.feed_port("a"))
            cascaded, reads_standby = receiver(cluster, "cascaded", first.port)
            wait_for("all to read", lambda: len(feed(cluster, "a")["readers"]) == 3, 20)
            readers = {each["application_name"]: each["standby"] for each in feed(cluster, "a")["readers"]}
            check(readers == {"a": True, "second": False, "pg_receivewal": False}, f"status names who reads: {readers}")
            write_wal(cluster, 3)
            first.sql("CHECKPOINT")
            write_wal(cluster, 3)
            first.kill()
            check(Commit(cluster).returned(10), "a standby's death holds no commit at level on up")
            write_wal(cluster, 1)
            first.start()
            end = cluster.flush_position()
            cluster.wait_replayed(end)
            wait_for("the second to replay", lambda: second.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == "t", 30)
            check(cluster.primary.dump_hash() == first.dump_hash() == second.dump_hash(), "both standbys equal the primary")
            switched = cluster.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
            cluster.primary.sql("CREATE TABLE behind_the_switch ()")
            wait_for("the reader of the feed to finish", lambda: (direct / switched).exists(), 30)
            for path in sorted(p for target in (direct, cascaded) for p in target.iterdir() if not p.name.endswith(".partial")):
                check(path.read_bytes() == (cluster.dir / "replica_a" / "wal" / path.name).read_bytes(), f"{path.parent.name}/{path.name} equals the log's")
            check(len(list(cascaded.iterdir())) > 3, "the reader behind the standby got WAL until that died")
            reads_feed.stop()
            reads_standby.stop()
            identical(cluster)
        finally:
            second.stop("immediate")


@scenario
def a_feed_is_asked_for_wal_that_is_gone():
    """A standby comes back from an older copy of itself: what it needs is named with its remedy, and the remedy works."""
    with Cluster(wal_segsize=1, keep={"a": "1MB"}) as cluster:
        cluster.start()
        standby = cluster.standbys["a"]
        older = cluster.dir / "older"
        standby.stop()
        run("cp", "-a", standby.data, older)
        needed = parse_lsn(cluster.flush_position())
        standby.start()
        write_wal(cluster, 6)
        cluster.wait_replayed(cluster.flush_position())
        wait_for("a's log to shrink", lambda: cluster.log_files("a")[0].name > segment_at(cluster, "b", needed + 2 * MB)[0].name, 20)
        standby.stop()
        shutil.rmtree(standby.data)
        older.rename(standby.data)
        wait_for("the feed to be left", lambda: feed(cluster, "a")["state"] == "away", 10)
        standby.start(wait=False)
        said = wait_for("the state to be named", lambda: (f := feed(cluster, "a")) and f["state"] == "needs_older_wal" and f, 30)
        check(said["reason"].startswith("a asked for") and "this log begins at" in said["reason"] and "slipstream restore" in said["remedy"], f"status: {said}")
        table = run(SLIPSTREAM, "status", "-c", cluster.config_path("a")).stdout
        check("needs older WAL" in table and "to do: give the standby a restore_command" in table, f"for people: {table}")
        check("has already been removed" in standby.log.read_text(), "the standby's log has PostgreSQL's own words")
        standby.stop()
        with open(standby.data / "postgresql.auto.conf", "a") as conf:
            conf.write(f"restore_command = '{SLIPSTREAM} restore --directory {cluster.dir / 'replica_b'} %f %p'\n")
        standby.start()
        cluster.wait_replayed(cluster.flush_position(), timeout=90)
        wait_for("the standby to stream", lambda: feed(cluster, "a")["state"] == "streaming", 30)
        check(not feed(cluster, "a")["reason"], "by the other replica's log it caught up, and streams again")
        check(cluster.primary.dump_hash() == standby.dump_hash(), "it equals the primary")


@scenario
def a_bounded_log_takes_no_more():
    """Its standby is away: at replica.keep_max the replica forgets nothing, says so and acknowledges no more, until the standby is back."""
    with Cluster(policy="ANY 1 (a, b)", wal_segsize=1, keep={"a": "1MB"}, keep_max={"a": "3MB"}) as cluster:
        cluster.start()
        standby = cluster.standbys["a"]
        standby.stop()
        begin = cluster.status("a")["replica"]["log_begin"]
        write_wal(cluster, 9)
        said = wait_for("the bound to be reached", lambda: (s := cluster.status("a")) and s["replica"]["state"] == "no_space" and s["warnings"] and s, 20)
        check("replica.keep_max is reached" in said["replica"]["reason"] and "start the standby" in said["warnings"][-1], f"status: {said['warnings']}")
        log = cluster.log_files("a")
        check(said["replica"]["log_begin"] == begin and len(log) <= 7, f"nothing is forgotten, and {len(log)} segments is all there is")
        check(Commit(cluster).returned(10), "commits go on by the other replica")
        cluster.daemons["a"].stop()
        cluster.start_daemon("a")
        wait_for("the bound to stand after a restart", lambda: (s := cluster.status("a")) and s["warnings"], 20)
        check(cluster.log_files("a") == log, "its log is the same after a restart")
        standby.start()
        cluster.wait_replayed(cluster.flush_position(), timeout=60)
        cluster.wait_streaming()
        check(cluster.status("a")["warnings"] == [], "with the standby back it goes on")
        wait_for("older WAL to go", lambda: parse_lsn(cluster.status("a")["replica"]["log_begin"]) > parse_lsn(begin), 20)
        identical(cluster)
        standby.stop()
        write_wal(cluster, 9)
        wait_for("the bound to be reached again", lambda: cluster.status("a")["replica"]["state"] == "no_space", 20)
        run(SLIPSTREAM, "fence", "-c", cluster.config_path("a"), "--candidate", "b", "-o", cluster.dir / "a.evidence")
        check(cluster.status("a")["replica"]["state"] == "fenced", "at the bound it can be fenced: what it received becomes durable")


@scenario
def a_standby_outlives_its_replicas_log():
    """The log is lost and made anew; the standby, ahead of it, goes on without a base backup."""
    with Cluster(wal_segsize=1) as cluster:
        cluster.start()
        standby = cluster.standbys["a"]
        write_wal(cluster, 3)
        load = IdLoad(cluster, clients=4, seconds=12)
        time.sleep(1)
        cluster.daemons["a"].kill()
        started = standby.sql("SELECT pg_postmaster_start_time()")
        shutil.rmtree(cluster.dir / "replica_a")
        refusal(cluster, "a", 5, "init-standby")
        again = ["init-standby", "-c", cluster.config_path("a"), "--primary", cluster.primary.conninfo, "--keep-standby", "-D"]
        refused(5, "no standby that could be kept is here", arguments=[*again, cluster.primary.data])
        run(SLIPSTREAM, *again, standby.data)
        begin, ahead = parse_lsn(cluster.primary.sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'slipstream_joining_a'")), standby.sql("SELECT pg_last_wal_replay_lsn()")
        check(parse_lsn(ahead) > begin - begin % MB, f"the standby, at {ahead}, is ahead of a log that is empty")
        cluster.start_daemon("a")
        cluster.wait_streaming()
        load.wait(60)
        cluster.wait_replayed(cluster.flush_position())
        check(standby.sql("SELECT pg_postmaster_start_time()") == started, "the standby went on as it was")
        check(load.lost(standby) == [], "every acknowledged commit is on it")
        identical(cluster)


@scenario
def an_interrupted_init_standby_is_repeated():
    """Killed at different moments of the base backup: what is left is no replica, and the next run makes one."""
    with Cluster(replicas=("a", "b"), policy="ANY 1 (a, b)", wal_segsize=1) as cluster:
        cluster.start(names=("a",))
        pgdata = cluster.standbys["b"].data
        command = [SLIPSTREAM, "init-standby", "-c", cluster.config_path("b"), "--primary", cluster.primary.conninfo, "-D", pgdata, "--port", cluster.standbys["b"].port]
        for until in (pgdata / "PG_VERSION", pgdata / "global" / "pg_control"):
            init = Process("init-standby", command, cluster.dir / "init.log")
            deadline = time.monotonic() + 20
            while not until.exists() and init.alive() and time.monotonic() < deadline:
                time.sleep(0.001)
            interrupted = init.alive()
            os.killpg(init.popen.pid, signal.SIGKILL)
            init.popen.wait()
            check(interrupted, f"init-standby was killed when {until.name} was there")
            refusal(cluster, "b", 5, "init-standby")
            shutil.rmtree(pgdata)
        cluster.init_replica("b")
        slots = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE slot_name LIKE '%joining_b%' OR temporary"
        left = cluster.primary.sql(slots)
        check(left == "slipstream_joining_b", f"{left}: the interrupted ones left one slot, which the last went on with")
        cluster.start_daemon("b")
        cluster.standbys["b"].start(wait=False)
        cluster.wait_streaming()
        wait_for("the slot to be dropped", lambda: cluster.primary.sql(slots) == "", 20)
        write_wal(cluster, 2)
        identical(cluster)

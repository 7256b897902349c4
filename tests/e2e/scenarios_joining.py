"""A replica joins a running cluster, a policy changes: who counts from when on, and what keeps the WAL until then."""

import time

from cluster import SLIPSTREAM, Cluster, Failure, IdLoad, parse_lsn, run, wait_for
from scenario import Commit, check, identical, scenario


@scenario
def a_third_replica_joins_under_load():
    """Its WAL is kept for it from init-standby on, although the others need it no more, until it streams."""
    with Cluster(replicas=("a", "b", "c"), policy="ANY 1 (a, b, c)", wal_segsize=1, settings={"min_wal_size": "2MB", "max_wal_size": "4MB"}) as cluster:
        sql = cluster.primary.sql
        cluster.start(names=("a", "b"))
        load = IdLoad(cluster, clients=4, seconds=25)
        cluster.init_replica("c")
        joining = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'slipstream_joining_c'"
        check(sql(joining) != "", "a slot keeps WAL for c")
        for _ in range(6):
            sql("CREATE TABLE filler AS SELECT repeat('x', 800) FROM generate_series(1, 3000)")
            sql("DROP TABLE filler")
            sql("CHECKPOINT")
        moved = f"SELECT (SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'slipstream') - ({joining}) > 4000000"
        wait_for("the daemon's own slot to move on by megabytes", lambda: sql(moved) == "t", 20)
        sql("CHECKPOINT")
        check(True, "the daemon's own slot has moved on by megabytes: it does not wait for c, which it has never met")
        cluster.start_daemon("c")
        cluster.standbys["c"].start(wait=False)
        cluster.wait_streaming(timeout=60)
        wait_for("the slot to be dropped", lambda: sql(joining) == "", 20)
        check(True, "c streams and counts, and its slot is gone")
        load.wait(60)
        cluster.wait_replayed(cluster.flush_position())
        check(load.lost(cluster.standbys["c"]) == [], "every acknowledged commit is on standby_c")
        identical(cluster)


@scenario
def replicas_count_on_an_idle_server():
    """Told a new policy behind a switch of segments they count at once: they hold the last record, and need not wait for another."""
    with Cluster() as cluster:
        cluster.start()
        for attempt in range(5):
            for name in ("p", "a", "b"):
                cluster.daemons[name].stop()
            cluster.policy = f"ANY {2 - attempt % 2} (a, b)"
            cluster.write_config("p")
            cluster.start_daemon("p")  # It writes a record itself before it streams: the switch comes behind that.
            wait_for("the primary's daemon to stream", lambda: confirmed(cluster) >= parse_lsn(cluster.flush_position()), 20)
            # PostgreSQL writes a record of its own every 15 s, or soon: then nothing was seen.
            cluster.primary.sql("SELECT pg_create_restore_point('idle')")
            cluster.primary.sql("SELECT pg_switch_wal()")
            end = cluster.flush_position()
            wait_for(f"{end} to be confirmed", lambda: confirmed(cluster) >= parse_lsn(end), 20)
            for name in ("a", "b"):
                cluster.start_daemon(name)
            started = time.monotonic()
            cluster.wait_streaming(timeout=30)
            took = time.monotonic() - started
            if cluster.flush_position() == end:
                check(took < 5, f"both count {took:.1f} s after the start of their daemons, nothing was written meanwhile")
                check(all(parse_lsn(r["ends"]["durable"]) < parse_lsn(end) for r in cluster.status("p")["primary"]["replicas"]), f"what they hold ends before {end}")
                return
        raise Failure("they never counted before PostgreSQL had written another record")


def confirmed(cluster):
    status = cluster.status("p")
    return parse_lsn(status["primary"]["confirmed_end"]) if status else 0


class WithFallback(Cluster):
    def init_replica(self, name):
        run(SLIPSTREAM, "init-standby", "-c", self.config_path(name), "--primary", self.primary.conninfo, "-D", self.standbys[name].data, "--port", self.standbys[name].port,
            "--set", "wal_retrieve_retry_interval=200ms", "--fallback", self.primary.sockets, "--fallback-port", self.primary.port, timeout=300)


@scenario
def a_standby_falls_back_and_returns():
    with WithFallback() as cluster:
        cluster.start()
        load = IdLoad(cluster, 2)

        def direct():
            return cluster.primary.sql("SELECT application_name FROM pg_stat_replication WHERE application_name IN ('a', 'b')").split()
        check(direct() == [], "with the feeds there no standby is at the primary")
        cluster.daemons["a"].kill()
        wait_for("a's standby at the primary", lambda: direct() == ["a"], 20)
        cluster.wait_replayed(cluster.flush_position(), ["a"], 20)
        check(True, "without its feed a's standby streams from the primary, and goes on replaying")
        check(Commit(cluster).returned(10), "commits go on with b")
        cluster.daemons["b"].signal(19)
        check(not Commit(cluster).returned(2), "a standby at the primary counts for no quorum")
        cluster.daemons["b"].signal(18)
        cluster.start_daemon("a")
        wait_for("a's standby to be brought back", lambda: direct() == [] and cluster.status("a")["replica"]["standby_connected"], 40)
        check("brought back to our feed" in cluster.daemon_log("a"), "a's daemon brings its standby back, and says so")
        cluster.wait_streaming()
        cluster.daemons["b"].kill()
        check(Commit(cluster, "remote_apply").returned(20), "commits at remote_apply wait on a's standby again")
        cluster.start_daemon("b")
        cluster.wait_streaming()
        load.end()
        check(load.lost(cluster.primary) == [], "nothing that was acknowledged is missing")
        identical(cluster)
        load.remove()

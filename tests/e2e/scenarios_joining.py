"""A replica joins a running cluster."""

from cluster import Cluster, IdLoad, wait_for
from scenario import check, identical, scenario


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
        cluster.start_daemon("c")
        cluster.standbys["c"].start(wait=False)
        cluster.wait_streaming(timeout=60)
        wait_for("the slot to be dropped", lambda: sql(joining) == "", 20)
        check(True, "c streams and counts, and its slot is gone")
        load.wait(60)
        cluster.wait_replayed(cluster.flush_position())
        check(load.lost(cluster.standbys["c"]) == [], "every acknowledged commit is on standby_c")
        identical(cluster)

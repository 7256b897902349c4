"""Commits wait on the quorum, at every level, and on both policies while one replaces the other."""

import time

from cluster import Cluster, IdLoad
from scenario import Commit, check, pause, resume, scenario


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
    awaited = {name: cluster.status(name)["replica"]["apply_awaited_end"] for name in names}
    check(Commit(cluster, "on").returned(10), f"policy {cluster.policy}: with replay paused a commit at level on returns")
    check(awaited == {name: cluster.status(name)["replica"]["apply_awaited_end"] for name in names}, "a commit at level on is not taken for one that waits for being applied")
    commit = Commit(cluster, "remote_apply")
    check(not commit.returned(4), f"policy {cluster.policy}: with replay paused a commit at remote_apply waits")
    check(all(cluster.status(name)["replica"]["apply_awaited_end"] != awaited[name] for name in names), "replicas see that a commit waits for being applied")
    for name in names:
        cluster.standbys[name].sql("SELECT pg_wal_replay_resume()")
    check(commit.returned(20), f"policy {cluster.policy}: with replay resumed it returns")


def cluster_for_waiting(policy):
    return Cluster(policy=policy, settings={"wal_sender_timeout": "2s"})


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
    with Cluster() as cluster:
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
        commit = Commit(cluster)
        check(not commit.returned(4), "without the primary's daemon a commit waits, as for any missing synchronous standby")
        cluster.start_daemon("p")
        check(commit.returned(20), "with the daemon back it returns")
        cluster.daemons["p"].kill()
        commit = Commit(cluster)
        check(not commit.returned(4), "after a kill of the primary's daemon a commit waits")
        cluster.start_daemon("p")
        check(commit.returned(20), "with the daemon back it returns")
        load.remove()

"""`slipstream bypass`: commits go on without replicas, on the record, also while the daemon is dead or hangs."""

import json
import signal

from cluster import SLIPSTREAM, Cluster, run, wait_for
from scenario import Commit, check, scenario
from scenarios_names import marks, open_marks


def bypass(cluster, *arguments):
    return run(SLIPSTREAM, "bypass", arguments[0], "-c", cluster.config_path("p"), *arguments[1:], check=False)


def names(cluster):
    return cluster.primary.sql("SHOW synchronous_standby_names")


def refusals(cluster):
    done = bypass(cluster, "off")
    check(done.returncode == 0 and "nothing to do" in done.stdout, "off without a bypass does nothing")
    done = bypass(cluster, "on")
    check(done.returncode == 2 and "--reason" in done.stderr, "on asks for a reason")
    done = run(SLIPSTREAM, "bypass", "on", "-c", cluster.config_path("a"), "--reason", "x", check=False)
    check(done.returncode == 2 and "give the primary's" in done.stderr, "a replica's configuration is refused")
    done = bypass(cluster, "on", "--reason", "x", "--names", "ANY 1 (slipstream)")
    check(done.returncode == 2 and "--names" in done.stderr and names(cluster) == "slipstream", "names that would wait as before are refused")
    cluster.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'other'")
    cluster.primary.sql("SELECT pg_reload_conf()")
    wait_for("the names", lambda: names(cluster) == "other")
    done = bypass(cluster, "off")
    check(done.returncode == 7 and "no bypass is on record" in done.stderr, "off does not take back what it did not do")
    cluster.require_quorum()
    cluster.wait_streaming()
    wait_for("the mark to be dropped", lambda: marks(cluster, "p") == [], 30)


def with_the_daemon(cluster):
    for name in ("a", "b"):
        cluster.daemons[name].kill()
    commit = Commit(cluster)
    check(not commit.returned(2), "without replicas a commit waits")
    done = bypass(cluster, "on", "--reason", "ticket 4711", "--json")
    result = json.loads(done.stdout) if done.returncode == 0 else done.stderr
    check(done.returncode == 0 and result["daemon"] == "told" and result["waited"] >= 1 and result["wait_still"] == 0, f"bypass on lets it go on: {result}")
    check(commit.returned(5) and names(cluster) == "", "the commit has returned")
    status = cluster.status("p")["primary"]
    check(status["bypass"]["reason"] == "ticket 4711" and status["not_held"][-1]["to"] is None, "status names the bypass, and what replicas may lack is marked")
    check("ticket 4711. Commits do not wait for replicas" in run(SLIPSTREAM, "status", "-c", cluster.config_path("p")).stdout, "in plain words, too")
    done = bypass(cluster, "off")
    check(done.returncode == 7 and "commits would wait" in done.stderr and names(cluster) == "", "off is refused while replicas are missing")
    for name in ("a", "b"):
        cluster.start_daemon(name)
    cluster.wait_streaming()
    wait_for("the replicas to hear of the mark", lambda: open_marks(cluster, ("a", "b")), 20)
    done = bypass(cluster, "off")
    check(done.returncode == 0 and names(cluster) == "slipstream", f"with them back it is not: {done.stdout.strip()}")
    check("bypass" not in cluster.status("p")["primary"], "status no longer speaks of it")
    wait_for("the mark to be dropped", lambda: all(marks(cluster, n) == [] for n in ("p", "a", "b")), 30)


def without_the_daemon(cluster):
    cluster.daemons["p"].kill()
    commit = Commit(cluster)
    check(not commit.returned(2), "with the daemon dead a commit waits")
    done = bypass(cluster, "on", "--reason", "daemon dead")
    check(done.returncode == 0 and "the daemon is dead; the mark stands in its state" in done.stdout and commit.returned(5), "bypass on lets it go on")
    done = bypass(cluster, "off")
    check(done.returncode == 8 and "--force" in done.stderr, "off is refused while the daemon is dead")
    cluster.start_daemon("p")
    cluster.wait_streaming()
    wait_for("the mark on the replicas", lambda: open_marks(cluster), 20)
    check(bypass(cluster, "off").returncode == 0 and Commit(cluster).returned(10), "with the daemon back it is not")
    wait_for("the mark to be dropped", lambda: all(marks(cluster, n) == [] for n in ("p", "a", "b")), 30)

    cluster.daemons["p"].kill()
    check(bypass(cluster, "on", "--reason", "again").returncode == 0 and Commit(cluster).returned(5), "both ways with the daemon dead:")
    done = bypass(cluster, "off", "--force")
    check(done.returncode == 0 and names(cluster) == "slipstream", "off --force puts the names back")
    commit = Commit(cluster)
    check(not commit.returned(1), "and commits wait")
    replicas = [cluster.daemons[name] for name in ("a", "b")]
    for each in replicas:
        each.signal(signal.SIGSTOP)
    cluster.start_daemon("p")
    wait_for("the daemon", lambda: cluster.status("p"))
    check(marks(cluster, "p") != [], "the daemon knows, once it lives, of what it never saw")
    for each in replicas:
        each.signal(signal.SIGCONT)
    cluster.wait_streaming()
    check(commit.returned(10), "and the commit returns with the replicas")


def with_a_daemon_that_hangs(cluster):
    cluster.daemons["p"].signal(signal.SIGSTOP)
    commit = Commit(cluster)
    done = bypass(cluster, "on", "--reason", "daemon hangs")
    check(done.returncode == 0 and "does not answer and cannot be told" in done.stdout and commit.returned(5), "with a daemon that hangs, too")
    cluster.daemons["p"].signal(signal.SIGCONT)
    wait_for("the mark on the replicas", lambda: open_marks(cluster), 30)
    cluster.wait_streaming()
    check(bypass(cluster, "off").returncode == 0, "which marks when it goes on")


@scenario
def commits_go_on_by_a_bypass():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        refusals(cluster)
        with_the_daemon(cluster)
        without_the_daemon(cluster)
        with_a_daemon_that_hangs(cluster)
        journal = [json.loads(line) for line in (cluster.dir / "state_p" / "bypass.jsonl").read_text().splitlines() if line]
        check([e["bypass"] for e in journal] == ["on", "off"] * 4 and all(e["by"] for e in journal), "each is on record")

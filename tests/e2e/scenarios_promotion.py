"""The primary is gone."""

import random
import time

from cluster import SLIPSTREAM, Cluster, IdLoad, run, wait_for
from scenario import SCENARIOS, Commit, check, promote_best, scenario


def lose_and_promote(policy, level, members, options=()):
    """`members`: a minimal recovery set; the first of it with the better log is promoted."""
    with Cluster(policy=policy, level=level) as cluster:
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
    with Cluster(policy="ANY 1 (a, b)") as cluster:
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

"""The primary is gone."""

import json
import random
import shutil
import time

from cluster import SLIPSTREAM, Cluster, Failure, IdLoad, parse_lsn, run, wait_for
from scenario import SCENARIOS, Commit, check, promote_best, refused, scenario


def lose_and_promote(policy, level, members, options=()):
    """`members`: a minimal recovery set; the first of it with the better log is promoted."""
    with Cluster(policy=policy, level=level) as cluster:
        cluster.start()
        load = IdLoad(cluster)
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


def fence(cluster, name, candidate, term):
    evidence = cluster.sockets / f"{name}.evidence"
    run(SLIPSTREAM, "fence", "-c", cluster.config_path(name), "--candidate", candidate, "--term", term, "-o", evidence)
    return evidence


def copied(cluster, name):
    """A copy of a replica's directory, as rsync would make it: its daemon runs, fenced."""
    copy = cluster.dir / f"copy_of_{name}"
    run("cp", "-r", cluster.dir / f"replica_{name}", copy)
    return copy


@scenario
def a_better_log_is_adopted_where_the_standby_is():
    """b keeps the log only and holds more than a, which has the standby: the policy ANY 1 lets commits return on b's word alone."""
    with Cluster(policy="ANY 1 (a, b)", log_only=("b",), wal_segsize=1) as cluster:
        cluster.start()
        load = IdLoad(cluster, filler=1000)
        time.sleep(1.5)
        cluster.daemons["a"].kill()
        time.sleep(random.uniform(1.5, 2.5))
        cluster.lose_primary()
        load.wait(30)
        cluster.start_daemon("a")
        wait_for("a's daemon to answer", lambda: cluster.status("a"))
        acknowledged = sum(load.acknowledged().values())
        promote = ["promote", "-c", cluster.config_path("a")]
        refused(7, "no standby", arguments=["adopt-log", "-c", cluster.config_path("b"), "--from", cluster.dir / "replica_a"])
        refused(5, "is using the directory", arguments=["adopt-log", "-c", cluster.config_path("a"), "--from", cluster.dir / "replica_b"])
        evidence = fence(cluster, "b", "a", 2)
        refused(7, "b holds the better log", "b has no standby", "slipstream adopt-log", arguments=[*promote, "--evidence", evidence])
        before, wanted = parse_lsn(cluster.status("a")["replica"]["durable_end"]), parse_lsn(json.loads(evidence.read_text())["durable_end"])
        check(wanted - before > 1 << 20, f"b holds {(wanted - before) >> 10} KiB more than a")
        copy = copied(cluster, "b")
        check(cluster.daemons["a"].stop() == 0, "a's daemon stops in order")
        adopt = ["adopt-log", "-c", cluster.config_path("a"), "--evidence", evidence, "--from"]
        refused(2, "own log", arguments=[*adopt, copied(cluster, "a")])
        interrupted(cluster, [SLIPSTREAM, *adopt, copy])
        refused(0, arguments=[*adopt, copy])
        refused(0, "nothing to adopt", arguments=[*adopt, copy])
        shutil.rmtree(copy)
        cluster.start_daemon("a")
        wait_for("a's daemon to answer", lambda: cluster.status("a"))
        check(parse_lsn(cluster.status("a")["replica"]["durable_end"]) == wanted, "a's log ends where b's does")
        promoted = run(SLIPSTREAM, *promote, "--evidence", evidence, timeout=180)
        server = cluster.standbys["a"]
        check("split brain" not in promoted.stdout and server.sql("SELECT pg_is_in_recovery()") == "f", "a was promoted")
        missing = load.lost(server)
        check(acknowledged > 50 and not missing, f"none of {acknowledged} acknowledged commits is missing: {missing[:5]}")
        check(promoted_takes_writes(server), "the promoted server takes writes")
        load.remove()


def interrupted(cluster, command):
    """Killed at a random moment a few times; the log is never shorter than before."""
    import signal
    import subprocess
    from cluster import as_pg_user, environment
    held = json.loads(run(SLIPSTREAM, "position", cluster.dir / "replica_a", "--json").stdout)["durable_end"]
    kills = 0
    for _ in range(6):
        process = subprocess.Popen([str(c) for c in command], env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_pg_user())
        time.sleep(random.uniform(0.0, 0.08))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        now = json.loads(run(SLIPSTREAM, "position", cluster.dir / "replica_a", "--json").stdout)["durable_end"]
        check(parse_lsn(now) >= parse_lsn(held), f"after a kill of adopt-log the log ends at {now}")
        held = now
    print(f"  {kills} of 6 were killed before they ended", flush=True)


@scenario
def split_brain_is_warned_of_until_all_are_fenced():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        load = IdLoad(cluster, 2, 3)
        load.wait(20)
        cluster.daemons["b"].stop()
        cluster.lose_primary()
        promote = ["promote", "-c", cluster.config_path("a")]
        end = cluster.status("a")["replica"]["durable_end"]
        refused(7, "no recovery set", "--accept-loss", arguments=promote)
        said = run(SLIPSTREAM, *promote, "--accept-loss", timeout=180).stdout
        promoted_end = said.split(" at ")[1].split(",")[0]
        check("MAY BE MISSING" in said and f"commits acknowledged after {promoted_end} may be missing" in said and "b could have acknowledged" in said and parse_lsn(promoted_end) >= parse_lsn(end),
              f"what may be missing is named with its position: {promoted_end}")
        check("split brain possible until b is fenced" in said, "promote warns of a split brain")
        warning = "split brain possible until b is fenced: slipstream fence -c FILE --candidate a --term 2"
        status = ["status", "-c", cluster.config_path("a")]
        refused(0, warning, arguments=status)
        cluster.daemons["a"].kill()
        cluster.start_daemon("a")
        wait_for("a's daemon to answer", lambda: cluster.status("a"))
        refused(0, warning, arguments=status)
        view = cluster.status("a")["replica"]
        check(view["split_brain_possible"] and view["unfenced"] == ["b"] and view["state"] == "promoted", "a restarted daemon still knows")
        refused(2, "cannot read the evidence", arguments=[*promote, "--fenced", cluster.sockets / "none"])
        refused(7, "c is not among", arguments=[*promote, "--destroyed", "c"])
        for_other = fence(cluster, "b", "b", 2)
        refused(7, "b has promised term 2 to b, not term 2 to a", arguments=[*promote, "--fenced", for_other])
        evidence = cluster.sockets / "b.evidence"
        run(SLIPSTREAM, "fence", "-c", cluster.config_path("b"), "--candidate", "a", "--term", 2, "--supersede", "-o", evidence)
        refused(0, "no split brain is possible", arguments=[*promote, "--fenced", evidence])
        check("split brain" not in run(SLIPSTREAM, *status).stdout and cluster.status("a")["replica"]["unfenced"] == [], "status warns no more")
        load.remove()

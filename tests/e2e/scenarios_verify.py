"""Copies of a log are compared: a primary's, replicas', a standby's own, ledgers alone; while everything runs."""

import json
import shutil
import subprocess

from cluster import SLIPSTREAM, Cluster, Failure, IdLoad, parse_lsn, run, wait_for
from scenario import check, refused, scenario
from scenarios_replica_log import MB, write_wal


def verify(*places, patient=False):
    """What it says; None, if `patient`, where the two have nothing in common yet."""
    done = subprocess.run([str(each) for each in (SLIPSTREAM, "verify", "--json", *places)], capture_output=True, text=True, timeout=60)
    if patient and "nothing in common" in done.stderr:
        return None
    if done.returncode not in (0, 5) or not done.stdout:
        raise Failure(f"verify {places}: exit {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@scenario
def copies_of_a_log_are_compared():
    with Cluster(wal_segsize=1) as cluster:
        cluster.start()
        write_wal(cluster, 6)
        p, a, b = (cluster.config_path(name) for name in "pab")
        ledgers = cluster.dir / "state_p" / "ledger"
        wait_for("ledgers to be made", lambda: ledgers.exists() and len(list(ledgers.iterdir())) >= 5, 30)
        # A live replica is compared up to where its state file, up to a second old, calls it final.
        wait_for("both replicas' state files to tell of what was written", lambda: (done := verify(a, b, patient=True)) and done["segments"] >= 5, 30)
        load = IdLoad(cluster, clients=4, seconds=8)
        for left, right in ((p, a), (a, b), (p, cluster.dir / "replica_b"), (cluster.primary.data, a), (cluster.standbys["a"].data, b)):
            for flags in ((), ("--bytes",)):
                done = verify(*flags, left, right)
                check(done["equal"] and done["segments"] >= 5, f"under load: {done}")
        check(verify(p, a)["by_ledger"] >= 4 and verify("--bytes", p, a)["by_ledger"] == 0, "by ledgers, unless every byte is wanted")
        copied = cluster.dir / "copied"
        run("cp", "-a", ledgers, copied)
        done = verify(copied, a)
        check(done["equal"] and done["by_ledger"] >= 4, f"with the primary's ledgers from another host: {done}")
        load.wait(60)
        check(load.lost(cluster.primary) == [], "the load went on")
        table = run(SLIPSTREAM, "verify", p, a).stdout
        check(table.startswith("equal     [") and "by their ledgers" in table, table.strip())

        copy = cluster.dir / "copy"
        run("cp", "-a", cluster.dir / "replica_a", copy)
        victim = cluster.log_files("a")[2].name
        flip(copy / "wal" / victim, 70001)
        check(verify(p, copy)["equal"], "ledgers were made before the damage")
        done = verify("--bytes", p, copy)
        at = done["difference"]
        check(not done["equal"] and at["offset_in_segment"] == 70001 and at["right_file"] == str(copy / "wal" / victim) and parse_lsn(at["at"]) % MB == 70001, f"the first difference: {at}")
        shutil.rmtree(copy / "ledger")
        refused(5, "they differ first at", "offset 70001", "position --check", arguments=["verify", a, copy])
        refused(5, "neither segments nor ledgers", arguments=["verify", a, cluster.sockets])
        refused(2, "", arguments=["verify", a])
        cluster.primary.stop()
        stopped = subprocess.run([str(SLIPSTREAM), "verify", str(p), str(a)], capture_output=True, text=True, timeout=30)
        check(stopped.returncode == 0 and "only its ledgers" in stopped.stderr, f"without the server: {stopped.stderr.strip()}")

"""Faults, catching up, feeds to others, a change of policy, ports between network namespaces."""

import random
import shutil
import time

from cluster import PG_BIN, PG_USER, SLIPSTREAM, Cluster, IdLoad, Process, run, wait_for
from namespaces import BridgedNamespaces, PacketCluster, cluster_over, need_root
from scenario import Commit, check, identical, pause, resume, scenario


@scenario
def faults_lose_nothing():
    faults = {"loss": 0.01, "duplicate": 0.01, "reorder": 0.01, "seed": random.randrange(1 << 30)}
    print(f"  seed {faults['seed']}")
    with Cluster(policy="ANY 2 (a, b)", faults=faults) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 8)
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('y', 500) FROM generate_series(1, 60000) g", timeout=120)
        load.wait(60)
        identical(cluster)
        views = cluster.status("p")["primary"]["replicas"]
        check(all(view["bytes_resent"] > 0 for view in views), "frames were lost and repaired")
        for view in views:
            print(f"  {view['name']}: {view['bytes_sent']} bytes sent, of these {view['bytes_resent']} again ({100 * view['bytes_resent'] / view['bytes_sent']:.2f} %)")
            check(view["bytes_resent"] < 0.04 * view["bytes_sent"], "repeats stay near what was lost")
        for server in cluster.standbys.values():
            check(not load.lost(server), f"every acknowledged commit is on {server.name}")
        load.remove()


@scenario
def corrupt_frames_change_nothing_but_counters():
    faults = {"corrupt": 0.002, "seed": random.randrange(1 << 30)}
    print(f"  seed {faults['seed']}")
    with Cluster(replicas=("a",), policy="ANY 1 (a)", faults=faults) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 5)
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('c', 500) FROM generate_series(1, 30000) g", timeout=120)
        load.wait(60)
        identical(cluster)
        for name in ("p", "a"):
            bad = {verdict: count for verdict, count in cluster.status(name)["frames"].items() if verdict not in ("accepted", "duplicate") and count > 0}
            check(bad, f"{name} refused frames: {bad}")
        check(not load.lost(cluster.standbys["a"]), "every acknowledged commit is on the standby")
        load.remove()


@scenario
def killed_replica_catches_up():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 14)
        time.sleep(1)
        cluster.daemons["b"].kill()
        # More than the ring holds, so that older segments must be read.
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('z', 500) FROM generate_series(1, 120000) g", timeout=120)
        cluster.primary.sql("SELECT pg_switch_wal()")
        cluster.start_daemon("b")
        cluster.wait_streaming()
        cluster.daemons["p"].kill()
        cluster.start_daemon("p")
        cluster.wait_streaming()
        load.wait(60)
        identical(cluster)
        switched = cluster.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        last = next(path for path in cluster.log_files("a") if path.name == switched)
        cluster.primary.sql("CREATE TABLE after_switch ()")
        dump = run(PG_BIN / "pg_waldump", "-q", last, check=False)
        check(dump.returncode == 0, f"pg_waldump reads a replica's segment {last.name} to its end {dump.stderr[:200]}")
        second = run(SLIPSTREAM, "run", "-c", cluster.config_path("a"), check=False, timeout=30)
        check(second.returncode == 5 and "is using the directory" in second.stderr, "a second daemon on the same directory is refused")
        load.remove()


@scenario
def pg_receivewal_streams_from_a_feed():
    with Cluster() as cluster:
        cluster.start()
        target = cluster.sockets / "received"
        target.mkdir()
        shutil.chown(target, PG_USER, PG_USER)
        receiver = Process("pg_receivewal", [PG_BIN / "pg_receivewal", "-h", cluster.sockets, "-p", cluster.feed_port("a"), "-U", PG_USER, "-D", target, "--no-loop"], cluster.dir / "receivewal.log")
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('w', 500) FROM generate_series(1, 60000) g", timeout=120)
        switched = cluster.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        cluster.primary.sql("CREATE TABLE more AS SELECT 1")
        wait_for(f"pg_receivewal to finish {switched}", lambda: (target / switched).exists(), 60, 0.2)
        finished = sorted(p for p in target.iterdir() if not p.name.endswith(".partial"))
        for path in finished:
            check(path.read_bytes() == (cluster.primary.data / "pg_wal" / path.name).read_bytes(), f"{path.name} equals the primary's")
        receiver.stop()
        refused = run(PG_BIN / "pg_basebackup", "-h", cluster.sockets, "-p", cluster.feed_port("a"), "-U", PG_USER, "-D", cluster.sockets / "bb", check=False)
        check(refused.returncode != 0 and "base backups" in refused.stderr, "pg_basebackup is told that a feed makes no base backups")


@scenario
def a_new_policy_works_as_the_stricter_of_both():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        cluster.daemons["p"].stop()
        pause(cluster, "a")
        cluster.policy = "FIRST 1 (b)"
        cluster.write_config("p")
        cluster.start_daemon("p")
        cluster.wait_streaming(["b"])
        check(Commit(cluster).returned(20), "b satisfies the old policy and the new one")
        resume(cluster, "a")
        check(cluster.status("p")["primary"]["policy"] == "FIRST 1 (b)", "the new policy is in force")
        pause(cluster, "a")
        check(Commit(cluster).returned(10), "commits no longer need a")
        resume(cluster, "a")
        pause(cluster, "b")
        check(not Commit(cluster).returned(4), "but they need b")
        resume(cluster, "b")


def frames_sent_and_received(cluster):
    """By the primary's port, and by its one replica's before faults are injected."""
    return cluster.status("p")["ports"][0]["sent"], cluster.status(cluster.names[0])["ports"][0]["received"]


def loses_nothing_at_any_loss(cluster, seconds=4):
    """1, 5 and 10 % of the frames are lost in each direction, some come twice or late; load throughout. Both daemons start anew in between. What the device itself loses is sent again, too; returned: the greatest part of the frames."""
    seed = random.randrange(1 << 30)
    print(f"  seed {seed}")
    loads, device_losses = [], []
    for loss in (0.01, 0.05, 0.10):
        cluster.faults = {"loss": loss, "duplicate": 0.01, "reorder": 0.02, "seed": seed}
        if not loads:
            cluster.start()
        else:
            cluster.write_configs()
            for name in ["p", *cluster.names]:
                cluster.daemons[name].stop()
                cluster.start_daemon(name)
            cluster.wait_streaming()
        before = cluster.status("p")["primary"]["replicas"][0]
        frames_before = frames_sent_and_received(cluster)
        loads.append(IdLoad(cluster, 4, seconds))
        cluster.primary.sql(f"CREATE TABLE big_{len(loads)} AS SELECT g, repeat('l', 500) FROM generate_series(1, 20000) g", timeout=60)
        loads[-1].wait(seconds + 60)
        after = cluster.status("p")["primary"]["replicas"][0]
        again, sent = after["bytes_resent"] - before["bytes_resent"], after["bytes_sent"] - before["bytes_sent"]
        left, arrived = (after - before for after, before in zip(frames_sent_and_received(cluster), frames_before))
        device_loss = max(0, left - arrived) / left
        device_losses.append(device_loss)
        commits = sum(loads[-1].acknowledged().values())
        check(0 < again < 3 * (loss + device_loss) * sent, f"at {100 * loss:.0f} % and the device's {100 * device_loss:.1f} %: {commits} commits, {100 * again / sent:.1f} % of {sent} bytes sent again")
    identical(cluster)
    for load in loads:
        for server in cluster.standbys.values():
            check(not load.lost(server), f"every acknowledged commit is on {server.name}")
        load.remove()
    return max(device_losses)


@scenario
def any_loss_over_memif():
    with cluster_over("memif") as cluster:
        lost = loses_nothing_at_any_loss(cluster)
        check(lost < 0.01, f"memif itself loses nothing: {lost:.2%} were still under way")


@scenario
def any_loss_over_kernel_udp():
    with Cluster(policy="ANY 1 (a)", replicas=("a",), kernel_udp=("a",)) as cluster:
        loses_nothing_at_any_loss(cluster)


@scenario
def any_loss_over_af_packet():
    with cluster_over("af_packet") as cluster:
        loses_nothing_at_any_loss(cluster)


@scenario
def any_loss_over_af_xdp():
    with cluster_over("af_xdp") as cluster:
        loses_nothing_at_any_loss(cluster)


@scenario
def kernel_udp_speaks_to_a_dpdk_device():
    """The replica has no DPDK device: its end of the link is the kernel's UDP."""
    with cluster_over("af_packet to kernel_udp") as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 5)
        load.wait(40)
        identical(cluster)
        check(sum(load.acknowledged().values()) > 50, "commits waited on a quorum that is reached through the kernel")
        for size in (0, 57, 1472):
            check(cluster.namespaces.pings("a", "10.77.0.1", size), f"the DPDK port answers a ping of {size} bytes")
        neighbours = cluster.namespaces.run("a", "ip", "neigh", "show", "10.77.0.1").stdout
        check("lladdr" in neighbours, f"and ARP: {neighbours.strip()}")
        load.remove()


def comes_back_after_10_s(cluster, cut, restore, where, within=1):
    """The link is gone for 10 s; commits go on within a second of its return, or what a NIC takes to notice that besides."""
    cut()
    commit = Commit(cluster)
    check(not commit.returned(10), "without the link a commit waits")
    restore()
    back = time.monotonic()
    check(commit.returned(5), "with the link it goes on")
    took = time.monotonic() - back
    check(took < within, f"{took:.2f} s after its return {where}")


def link_comes_back(cluster):
    """A link that is cut at either end; memif has none, so there its peer stands still."""
    cluster.start()
    namespaces = getattr(cluster, "namespaces", None)
    if not namespaces:
        comes_back_after_10_s(cluster, lambda: pause(cluster, "a"), lambda: resume(cluster, "a"), "of a peer that stood still")
    for host, other in (("p", "a"), ("a", "p")) if namespaces else ():
        def set_link(state):
            namespaces.ip(host, "link", "set", namespaces.link(host, other), state)
        comes_back_after_10_s(cluster, lambda: set_link("down"), lambda: set_link("up"), f"at the end of {host}")
    identical(cluster)
    return namespaces


@scenario
def a_link_comes_back():
    """At the primary's end, a DPDK device, and at the replica's, on kernel UDP. The primary tells of it."""
    with cluster_over("af_packet to kernel_udp") as cluster:
        link_comes_back(cluster)
        port = cluster.status("p")["ports"][0]
        check(port["up"] and port["link_losses"] == 2, f"status counts both losses: {port}")
        def told():
            log = cluster.daemon_log("p", 100_000)
            return log.count("its link was lost") == 2 and log.rstrip().rfind("its link is up") > log.rfind("its link was lost")
        wait_for("the log to tell of each, and of the last return", told, 5)


@scenario
def kernel_udp_carries_replicas():
    """One replica over memif, one over kernel UDP, both needed; 5 % of the frames are lost, some come twice or late; the second is killed and catches up."""
    faults = {"loss": 0.05, "duplicate": 0.01, "reorder": 0.02, "seed": random.randrange(1 << 30)}
    print(f"  seed {faults['seed']}")
    with Cluster(policy="ANY 2 (a, b)", kernel_udp=("b",), faults=faults) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 8)
        time.sleep(1)
        cluster.daemons["b"].kill()
        cluster.primary.sql("SET synchronous_commit = local; CREATE TABLE big AS SELECT g, repeat('u', 500) FROM generate_series(1, 80000) g", timeout=120)
        cluster.start_daemon("b")
        cluster.wait_streaming()
        load.wait(60)
        identical(cluster)
        check("DPDK" not in cluster.daemon_log("b") and "hugepages" not in cluster.daemon_log("b"), "b needs neither DPDK nor hugepages")
        views = {view["name"]: view for view in cluster.status("p")["primary"]["replicas"]}
        check(views["b"]["bytes_resent"] > 0, "frames were lost and repaired")
        for server in cluster.standbys.values():
            check(not load.lost(server), f"every acknowledged commit is on {server.name}")
        load.remove()


@scenario
def a_slow_replica_slows_no_other():
    """b's link carries 2 MB/s; beyond 1 MB behind it is called slow and served from files, commits go on with a, and it comes back by itself."""
    class NarrowLink(Cluster):
        def write_config(self, name):
            super().write_config(name)
            if name == "p":
                text = self.config_path(name).read_text().replace("[primary]\n", '[primary]\nslow_backlog = "1MB"\n')
                self.config_path(name).write_text(text.replace('name = "b"\n', 'name = "b"\nmax_rate = "2MB"\n'))
    with NarrowLink() as cluster:
        cluster.start()
        def view(name):
            return {each["name"]: each for each in cluster.status("p")["primary"]["replicas"]}[name]
        load = IdLoad(cluster, 2, 6)
        cluster.primary.sql("SET synchronous_commit = local; CREATE TABLE big AS SELECT g, repeat('u', 500) FROM generate_series(1, 16000) g")
        wait_for("b to be called slow", lambda: view("b")["state"] == "slow", 5)
        check("more than 1.0 MB behind, so served from files" in view("b")["reason"], f"why, and how far it has to go: {view('b')}")
        slow_from = time.time()
        time.sleep(0.5)
        slow_to = time.time()
        check(view("b")["state"] == "slow" and view("a")["state"] == "streaming", f"b alone is slow: {view('a')}, {view('b')}")
        cluster.wait_streaming(timeout=30)
        load.wait(20)
        commits = len(load.latencies_us(slow_from, slow_to))
        check(commits > 20, f"{commits} commits went on with a")
        slowest = max(load.latencies_us())
        check(slowest < 1_000_000, f"beside a slow replica the slowest of {len(load.latencies_us())} commits took {slowest / 1000:.0f} ms")
        identical(cluster)
        check(not load.lost(cluster.standbys["b"]), "every acknowledged commit is on b's standby")
        load.remove()


@scenario
def long_frames_share_their_payloads():
    """Frames so long that two replicas' share the buffer of their payload, and some are lost."""
    faults = {"loss": 0.01, "reorder": 0.01, "seed": random.randrange(1 << 30)}
    with Cluster(policy="ANY 2 (a, b)", faults=faults, mtu=9000) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 3)
        cluster.primary.sql("CREATE TABLE big AS SELECT g, repeat('y', 500) FROM generate_series(1, 60000) g", timeout=120)
        load.wait(60)
        identical(cluster)
        chained = {port["name"]: port["chained"] for port in cluster.status("p")["ports"]}
        check(all(count > 1000 for count in chained.values()), f"payloads were copied once for both: {chained}")
        for server in cluster.standbys.values():
            check(not load.lost(server), f"every acknowledged commit is on {server.name}")
        load.remove()


@scenario
def a_path_whose_mtu_shrinks_stalls_nothing():
    """af_packet with jumbo frames through the bridge of a host between, whose MTU falls to 1500 and then to 4000, under load: no end is told, and no frame of it comes back."""
    need_root()
    with BridgedNamespaces() as namespaces:
        class Jumbo(PacketCluster):
            port_lines = "mtu = 9000\n"
            device = "{link}"
        Jumbo.namespaces = namespaces
        with Jumbo(policy="ANY 1 (a)", replicas=("a",)) as cluster:
            cluster.start()
            def frame_bytes():
                return cluster.status("p")["primary"]["replicas"][0]["frame_bytes"]
            wait_for("the path to be found", lambda: frame_bytes() == 8972, 5)
            bulk = "INSERT INTO big SELECT repeat(md5(g::text), 100) FROM generate_series(1, 2000) g"
            cluster.primary.sql("CREATE TABLE big (filler text); ALTER TABLE big ALTER filler SET STORAGE EXTERNAL")
            load = IdLoad(cluster, 4, 8, filler=3000)
            for mtu, expected in ((1500, range(1457, 1473)), (4000, range(1457, 3973))):
                cluster.primary.sql(bulk)
                namespaces.set_path_mtu(mtu)
                cluster.primary.sql(bulk)
                wait_for(f"the path of {mtu} to be found; frames are of {frame_bytes()} bytes", lambda: frame_bytes() in expected, 5)
                # A busy machine may take a late acknowledgement for a path that shrank: shorter for a moment, never longer.
                for _ in range(10):
                    time.sleep(0.1)
                    found = frame_bytes()
                    check(found < expected.stop, f"through a path of {mtu} frames are of {found} bytes")
                cluster.primary.sql(bulk)
                wait_for(f"frames to be as long as the path of {mtu} carries", lambda: frame_bytes() in expected, 5)
            load.wait(60)
            slowest = load.latencies_us()[-1]
            check(slowest < 1_000_000, f"the slowest of {len(load.latencies_us())} commits took {slowest / 1000:.0f} ms")
            identical(cluster)
            check(not load.lost(cluster.standbys["a"]), "every acknowledged commit is on the standby")
            load.remove()

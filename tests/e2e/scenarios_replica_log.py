"""A replica's own directory: what is damaged in it and what is merely torn, how much it keeps, timelines."""

import json
import re
import shutil

from cluster import PG_BIN, SLIPSTREAM, Cluster, IdLoad, format_lsn, parse_lsn, run, wait_for
from scenario import Commit, changed, check, identical, refusal, refused, scenario

MB = 1 << 20


def position(cluster, name):
    return json.loads(run(SLIPSTREAM, "position", cluster.dir / f"replica_{name}", "--json").stdout)


def write_wal(cluster, megabytes):
    cluster.primary.sql("CREATE TABLE IF NOT EXISTS big (filler text)")
    for _ in range(megabytes):
        cluster.primary.sql("INSERT INTO big SELECT repeat('w', 500) FROM generate_series(1, 1800)", timeout=60)


def segment_at(cluster, name, at):
    """The newest timeline's file that holds a position, and the offset in it."""
    size = cluster.wal_segsize * MB
    number = at // size
    per_id = 0x100000000 // size
    tail = f"{number // per_id:08X}{number % per_id:08X}"
    return [path for path in cluster.log_files(name) if path.name.endswith(tail)][-1], at % size


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@scenario
def damaged_replicas_are_named():
    with Cluster(replicas=("a",), policy="ANY 1 (a)", wal_segsize=1) as cluster:
        cluster.write_configs()
        refusal(cluster, "a", 5, "not a replica's directory", "init-standby")
        cluster.start()
        write_wal(cluster, 5)
        padding = switch_segment(cluster)
        ledgers_are_kept(cluster, padding)
        second = run(SLIPSTREAM, "run", "-c", cluster.config_path("a"), check=False, timeout=30)
        check(second.returncode == 5 and "is using the directory" in second.stderr, "a second daemon on the same directory is refused")
        refused(5, "is using the directory", arguments=["position", cluster.dir / "replica_a"])
        acknowledged = parse_lsn(cluster.flush_position())
        check(cluster.daemons["a"].stop() == 0, "a's daemon stops in order")
        held = position(cluster, "a")
        end = parse_lsn(held["durable_end"])
        check(end >= acknowledged, f"position shows at least what was acknowledged: {held['durable_end']}")
        checked_against_ledgers(cluster, parse_lsn(held["log_begin"]), padding)
        damaged_state(cluster)
        damaged_log(cluster, parse_lsn(held["log_begin"]), end)
        closed_directories(cluster)
        torn_tail(cluster, end)
        cluster.start_daemon("a")
        cluster.wait_streaming()
        identical(cluster)
        time_passes(cluster, 2)  # The state file follows at most a second behind.
        cluster.daemons["a"].kill()
        segment, offset = segment_at(cluster, "a", acknowledged - 100)
        flip(segment, offset)
        refusal(cluster, "a", 5, segment.name, "is damaged at", "init-standby")


def switch_segment(cluster):
    """A position in the padding behind a switch record."""
    cluster.primary.sql("CREATE TABLE IF NOT EXISTS switched (at int); INSERT INTO switched VALUES (1)")
    end = parse_lsn(cluster.primary.sql("SELECT pg_switch_wal()"))
    padding = end + (cluster.wal_segsize * MB - end % (cluster.wal_segsize * MB)) * 3 // 4
    write_wal(cluster, 1)
    return padding


def ledgers_of(directory):
    """{segment name: entries} of a directory of ledgers; the bytes before and behind an entry list are in docs/segment_format.md."""
    return {path.name: path.read_bytes()[40:-16] for path in directory.glob("*") if len(path.name) == 24}


def ledgers_are_kept(cluster, at):
    name = segment_at(cluster, "a", at)[0].name
    replica, primary = cluster.dir / "replica_a" / "ledger", cluster.dir / "state_p" / "ledger"
    wait_for("a ledger of the switched segment on both sides", lambda: name in ledgers_of(replica) and name in ledgers_of(primary), 20)
    ours, theirs = ledgers_of(replica), ledgers_of(primary)
    common = set(ours) & set(theirs)
    check(len(common) >= 4 and all(len(ours[each]) == 32 * 16 for each in common), f"{len(common)} segments have a ledger on both sides")
    check(all(ours[each] == theirs[each] for each in common), "the entries of the primary's ledgers equal the replica's")


def checked_against_ledgers(cluster, begin, padding):
    directory = cluster.dir / "replica_a"
    ledgers = ledgers_of(directory / "ledger")
    said = json.loads(run(SLIPSTREAM, "position", directory, "--check", "--json").stdout)["ledger"]
    check(said["segments"] == len(ledgers) and said["blocks"] == 16 * len(ledgers), f"position --check: {said['blocks']} blocks of {said['segments']} segments are equal")
    text = run(SLIPSTREAM, "position", directory, "--check").stdout
    check(f"{said['blocks']} blocks of {said['segments']} segments compared, all equal" in text, "it says so in words, too")
    for at in (padding, begin + 5, begin + 300000):
        segment, offset = segment_at(cluster, "a", at)
        flip(segment, offset)
        if at == padding:
            check(position(cluster, "a")["durable_end"], "no record's checksum covers padding: position alone finds nothing")
        block = at - at % 65536
        refused(5, str(segment), f"differs from its ledger in the block [{format_lsn(block)}, {format_lsn(block + 65536)})", "do not promote", "init-standby", arguments=["position", directory, "--check"])
        flip(segment, offset)
    name = sorted(ledgers)[0]
    flip(directory / "ledger" / name, 50)
    refused(5, str(directory / "ledger" / name), "checksum does not fit", "remove this file", arguments=["position", directory, "--check"])
    flip(directory / "ledger" / name, 50)


def damaged_state(cluster):
    state = cluster.dir / "replica_a" / "state"
    whole = state.read_bytes()
    for damaged in (b"", whole[:-5], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]):
        state.write_bytes(damaged)
        refusal(cluster, "a", 5, "state file")
    state.write_bytes(whole)
    again = run(SLIPSTREAM, "init-standby", "-c", cluster.config_path("a"), "--primary", cluster.primary.conninfo, "-D", cluster.standbys["a"].data, check=False)
    check(again.returncode == 5 and "already" in again.stderr, "init-standby over a replica is refused")
    other = changed(cluster, "a", "replica_a\"", "state_p\"")
    cluster.daemons["p"].stop()
    refusal(cluster, "a", 5, "primary's state directory", "replica.directory", config=other)
    cluster.start_daemon("p")


def both_refuse(cluster, *parts):
    refusal(cluster, "a", 5, *parts)
    refused(5, *parts, arguments=["position", cluster.dir / "replica_a"])


def within_a_record(cluster, name, begin):
    """A position in the segment of `begin` that a record's checksum covers."""
    segment, _ = segment_at(cluster, name, begin)
    said = run(PG_BIN / "pg_waldump", segment, check=False).stdout
    records = re.findall(r"len \(rec/tot\): *\d+/ *(\d+), .*? lsn: ([0-9A-F/]+)", said)
    return next(parse_lsn(lsn) + 30 for length, lsn in records if int(length) >= 60)


def damaged_log(cluster, begin, end):
    """Everything below what was acknowledged before an orderly stop is known to have been durable."""
    for at in (within_a_record(cluster, "a", begin), (begin + end) // 2, end - 16):
        segment, offset = segment_at(cluster, "a", at)
        flip(segment, offset)
        both_refuse(cluster, segment.name, "is damaged at", "its storage lost data", "do not promote", "init-standby")
        flip(segment, offset)
    segment, _ = segment_at(cluster, "a", (begin + end) // 2)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:300000])
    both_refuse(cluster, "wrong segment size", f"{segment.name} has 300000 bytes", "primary's pg_wal", "init-standby")
    segment.write_bytes(bytes(len(whole)))
    both_refuse(cluster, segment.name, "zeros where there was WAL")
    segment.unlink()
    both_refuse(cluster, segment.name, "the segment is missing")
    # What the messages say to do: the primary has the same bytes.
    shutil.copy(cluster.primary.data / "pg_wal" / segment.name, segment)
    shutil.chown(segment, *(2 * [segment.parent.stat().st_uid]))
    check(parse_lsn(position(cluster, "a")["durable_end"]) == end, "with the primary's segment of that name in its place the log is whole again")


def closed_directories(cluster):
    wal = cluster.dir / "replica_a" / "wal"
    for closed, part in ((wal, "not readable for this user"), (wal.parent, "Permission denied")):
        closed.chmod(0)
        both_refuse(cluster, str(closed), part)
        closed.chmod(0o700)
    wal.chmod(0o500)
    both_refuse(cluster, "not writable for this user")
    wal.chmod(0o700)
    away = wal.rename(wal.parent / "away")
    both_refuse(cluster, str(wal), "no WAL directory")
    away.rename(wal)


def torn_tail(cluster, end):
    segment, offset = segment_at(cluster, "a", end)
    before = segment.read_bytes()
    segment.write_bytes(before[:offset] + b"\x2a" * min(3000, len(before) - offset) + before[offset + 3000:])
    check(parse_lsn(position(cluster, "a")["durable_end"]) == end, "a torn tail behind what was durable is no damage")


@scenario
def a_replica_keeps_what_is_needed_and_no_more():
    with Cluster(replicas=("a",), policy="ANY 1 (a)", wal_segsize=1, keep={"a": "3MB"}) as cluster:
        cluster.start()
        begin = parse_lsn(cluster.status("a")["replica"]["log_begin"])
        cluster.standbys["a"].stop()
        write_wal(cluster, 8)
        wait_for("a's log to become final", lambda: parse_lsn(cluster.status("a")["replica"]["final_end"]) >= begin + 6 * MB, 20)
        time_passes(cluster, 3)
        check(parse_lsn(cluster.status("a")["replica"]["log_begin"]) == begin and segment_at(cluster, "a", begin)[0].exists(), "while the standby is away nothing is removed")
        cluster.standbys["a"].start(wait=False)
        cluster.wait_replayed(cluster.flush_position())
        wait_for("the log's begin to rise", lambda: parse_lsn(cluster.status("a")["replica"]["log_begin"]) > begin + 2 * MB, 20)
        write_wal(cluster, 4)
        time_passes(cluster, 3)
        view = cluster.status("a")["replica"]
        first, low, final = cluster.log_files("a")[0], parse_lsn(view["log_begin"]), parse_lsn(view["final_end"])
        check(first == segment_at(cluster, "a", low)[0], f"the first segment is that of log_begin, {view['log_begin']}")
        check(3 * MB <= final - low <= 6 * MB, f"replica.keep = 3MB: {(final - low) / MB:.1f} MB are kept")
        cluster.daemons["a"].kill()
        check(parse_lsn(position(cluster, "a")["log_begin"]) >= low, "the state file knows where the log begins")
        cluster.start_daemon("a")
        cluster.wait_streaming()
        identical(cluster)


def time_passes(cluster, seconds):
    """So long that the daemon looks at least twice at what it may remove."""
    cluster.primary.sql(f"SELECT pg_sleep({seconds})")


def restore(cluster, old):
    """The primary's data directory as it was: the same directory, so the same server as far as its state directory can tell."""
    for path in cluster.primary.data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run("cp", "-a", f"{old}/.", cluster.primary.data)


@scenario
def a_log_crosses_timelines():
    with Cluster(replicas=("a",), policy="ANY 1 (a)", wal_segsize=1) as cluster:
        cluster.start()
        write_wal(cluster, 2)
        cluster.daemons["p"].stop()
        cluster.primary.stop()
        run("cp", "-a", cluster.primary.data, cluster.sockets / "old")
        old = cluster.sockets / "old"
        (cluster.primary.data / "standby.signal").touch()
        cluster.primary.start()
        check(cluster.primary.sql("SELECT pg_promote()") == "t", "the primary goes over to timeline 2")
        # Before the next checkpoint: what the control file says is still timeline 1.
        cluster.start_daemon("p")
        cluster.wait_streaming()
        check(Commit(cluster).returned(20), "commits go on")
        write_wal(cluster, 2)
        identical(cluster)
        view = cluster.status("a")["replica"]
        check(view["timeline"] == 2 and {path.name[:8] for path in cluster.log_files("a")} == {"00000001", "00000002"}, "a's log has segments of both timelines")
        cluster.daemons["a"].stop()
        held = position(cluster, "a")
        check(held["timeline"] == 2 and parse_lsn(held["durable_end"]) >= parse_lsn(view["durable_end"]), "position reads it across the fork")
        history = cluster.dir / "replica_a" / "wal" / "00000002.history"
        content = history.read_bytes()
        history.unlink()
        refusal(cluster, "a", 5, "00000002.history", "primary's pg_wal")
        history.write_bytes(b"no history\n")
        refusal(cluster, "a", 5, "00000002.history", "not a line of a timeline history")
        history.write_bytes(content)
        cluster.start_daemon("a")
        cluster.wait_streaming()
        check(Commit(cluster).returned(20), "after a restart of a's daemon commits go on")
        older_timeline(cluster, old)


def older_timeline(cluster, old):
    cluster.primary.stop()
    restore(cluster, old)
    cluster.primary.start()
    reason = wait_for("the running daemon to notice", lambda: (s := cluster.status("p")) and s["primary"]["state"] == "older_timeline" and s["primary"]["reason"], 30)
    check("timeline 1" in reason and "timeline 2" in reason, f"status: {reason}")
    check(not Commit(cluster).returned(3), "its commits wait")
    cluster.daemons["p"].stop()
    refusal(cluster, "p", 5, "PostgreSQL is on timeline 1", "timeline 2 was served", "--claim-term")

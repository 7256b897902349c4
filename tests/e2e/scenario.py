"""What scenarios share: their registry, checks that print, a commit under way, comparisons."""

import os
import shutil
import signal
import subprocess

from cluster import PG_BIN, PG_USER, SLIPSTREAM, Failure, as_pg_user, environment, parse_lsn, run, wait_for

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def check(condition, what):
    if not condition:
        raise Failure(what)
    print(f"  ok: {what}", flush=True)


class Commit:
    """One commit in a session of its own, under way."""

    def __init__(self, cluster, level=None):
        setting = f"SET synchronous_commit = {level};" if level else ""
        primary = cluster.primary
        self.popen = subprocess.Popen([str(PG_BIN / "psql"), "-XAtq", "-h", str(primary.sockets), "-p", str(primary.port), "-U", PG_USER, "-d", "postgres", "-c",
                                       f"{setting} CREATE TABLE IF NOT EXISTS commits (at timestamptz DEFAULT now()); INSERT INTO commits DEFAULT VALUES"],
                                      env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_pg_user())

    def returned(self, within):
        try:
            self.popen.wait(within)
            return True
        except subprocess.TimeoutExpired:
            return False


def pause(cluster, name):
    cluster.daemons[name].signal(signal.SIGSTOP)


def resume(cluster, name):
    cluster.daemons[name].signal(signal.SIGCONT)


def identical(cluster):
    end = cluster.flush_position()
    cluster.wait_replayed(end)
    check(cluster.standbys_identical(), "an ordered dump of each standby equals the primary's")
    for name in cluster.names:
        wait_for(f"the log of {name} to be final", lambda: parse_lsn(cluster.status(name)["replica"]["final_end"]) >= parse_lsn(end), 30)
        difference = cluster.log_difference(name)
        check(difference is None, difference or f"the log of {name} equals the primary's, byte for byte")


def promote_best(cluster, members, options, said=None):
    """`said`: a list that the promotion's own words are added to."""
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
            if said is not None:
                said.append(done.stdout)
            return candidate
        if f"promote {other} instead" not in done.stderr:
            raise Failure(f"promote exited {done.returncode}\n{done.stdout}{done.stderr}")
    raise Failure("no member could be promoted")


def refused(code, *parts, arguments=()):
    """The program ends at once with this exit code, and its message has these parts."""
    done = run(SLIPSTREAM, *arguments, check=False, timeout=40)
    said = done.stderr + done.stdout
    if done.returncode != code or not all(part in said for part in parts):
        raise Failure(f"{' '.join(map(str, arguments))}: expected exit {code} with {parts}, got {done.returncode}: {said}")
    check(True, f"exit {code}: {' '.join(said.split())[:300]}")
    return said


def refusal(cluster, name, code, *parts, config=None):
    """The daemon does not start."""
    return refused(code, *parts, arguments=["run", "-c", config or cluster.config_path(name)])


def changed(cluster, name, before, after):
    """A copy of a node's configuration with one thing changed."""
    text = cluster.config_path(name).read_text()
    if before not in text:
        raise Failure(f"{before!r} is not in {name}.toml")
    path = cluster.dir / "changed.toml"
    path.write_text(text.replace(before, after))
    if os.geteuid() == 0:
        shutil.chown(path, PG_USER, PG_USER)
    return path

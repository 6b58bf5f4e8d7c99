#!/usr/bin/env python3
"""Measures previews side by side with the bare statements that they come to. Standard library only.

Usage: previews.py PGDB [--only warm,existing,cold,crowd,delete,reflink] [--places memory,disk] [--large]
                   [--pool N] [--rounds N] [--crowd N] [--memory DIR] [--disk DIR] [--major N]
Prints a table in Markdown on standard output; progress goes to standard error. `reflink` needs root and XFS.
"""

import argparse
import http.client
import itertools
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

from common import ROOT, Session, daemon_in, median, say, verifier, when
from preview_bed import TEMPLATE, Bare, bed, fill_small, fill_wide

PARTS = ["warm", "existing", "cold", "crowd", "delete", "reflink"]


def in_words(values, digits=None):
    """Median, in brackets the quartiles."""
    middle = median(values)
    digits = digits if digits is not None else 2 if middle < 5 else 1 if middle < 50 else 0
    if len(values) < 2:
        return f"{middle:.{digits}f}"
    low, high = statistics.quantiles(values, n=4)[::2]
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def row(what, ours, beside, ratio, goal):
    print(f"| {what} | {ours} | {beside} | {ratio} | {goal} |", flush=True)


def ratio(ours, theirs):
    return f"{median(ours) / median(theirs):.2f} ×"


def timed(run):
    begin = time.perf_counter()
    result = run()
    return (time.perf_counter() - begin) * 1000, result


class Kept:
    """One connection to the daemon that is kept. After a long rest it is made anew: the daemon closes idle ones."""

    REST = 5

    def __init__(self, daemon):
        self.headers = {"Authorization": f"Bearer {daemon.token}", "Content-Type": "application/json"}
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=600)
        self.connection.connect()
        self.used = time.monotonic()

    def call(self, method, path, body=None):
        if time.monotonic() - self.used > self.REST:
            self.connection.close()
            self.connection.connect()
        self.connection.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        self.used = time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
        return json.loads(text)

    def ensure(self, number):
        return self.call("POST", "/v1/preview-db/ensure", {"pr_number": number})

    def delete(self, number, wait=True):
        return self.call("DELETE", f"/v1/preview-db/{number}" + ("" if wait else "?wait=false"))


class Bench:
    """One server, the daemon beside it, and where they are."""

    def __init__(self, server, daemon, label, chosen):
        self.server, self.daemon, self.label, self.chosen = server, daemon, label, chosen
        self.next = 1
        self.start(0)
        self.kept.call("POST", "/v1/previews/-/prepare")
        pool = self.kept.call("GET", "/v1/previews")["pools"][0]
        self.bare = Bare(server, pool["strategy"])
        self.names = (f"{n}" for n in itertools.count())
        say(f"{label}: strategy {pool['strategy']}")

    def start(self, pool):
        self.daemon.stop()
        self.daemon.more = self.server.environment() | {
            "DB_PREVIEW_APP_PASSWORD_SECRET": "secret of the bench", "DB_TEMPLATE_NAME": TEMPLATE, "PGDB_PREVIEW_MAX": "100000",
            "PGDB_PREVIEW_POOL_MIN": str(pool), "PGDB_PREVIEW_POOL_MAX": str(pool),
        }
        self.daemon.start()
        self.kept = Kept(self.daemon)

    def wait_pool(self, size):
        begin = time.perf_counter()
        while True:
            pool = self.kept.call("GET", "/v1/previews")["pools"][0]
            # What was left of the numbers before gets its verifiers after the others are made.
            if sorted(pool["numbers"]) == list(range(self.next, self.next + size)) and pool["making"] == 0:
                break
            if time.perf_counter() - begin > 900:
                raise RuntimeError(f"the pool was not filled: {pool}")
            time.sleep(0.1)
        # Sessions that are just leaving an entry would be in the way of its new name.
        time.sleep(0.5)
        say(f"{self.label}: pool of {size} ready after {time.perf_counter() - begin:.1f} s")

    def numbers(self, count):
        first, self.next = self.next, self.next + count
        return list(range(first, first + count))

    def psql(self, sql):
        """Milliseconds of a psql process."""
        name = self.server.script("bare.sql", sql)
        took, status = timed(lambda: self.server.psql(name).wait())
        if status != 0:
            raise RuntimeError(f"psql: {status}")
        return took

    def at_once(self, jobs, clients):
        """Runs `job(kept)` of each of them with some clients; seconds until the last one's end, and how many failed."""
        left, failed, lock = list(reversed(jobs)), [], threading.Lock()

        def work():
            kept = Kept(self.daemon)
            while True:
                with lock:
                    if not left:
                        return
                    job = left.pop()
                try:
                    job(kept)
                except (RuntimeError, OSError) as error:
                    failed.append(error)
                    kept = Kept(self.daemon)

        threads = [threading.Thread(target=work) for _ in range(clients)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in failed[:3]:
            say("failed:", error)
        return time.perf_counter() - begin, len(failed)

    def remove(self, numbers):
        self.at_once([lambda kept, n=n: kept.delete(n) for n in numbers], 4)

    def steps(self, kind, count):
        """Says where the time of the newest operations of a kind went."""
        items = self.kept.call("GET", f"/v1/operations?kind={kind}&state=succeeded&limit={count}")["items"]
        took = {}
        for item in items:
            for step in item["steps"]:
                took.setdefault(step["name"], []).append(when(step["finished_at"]) - when(step["started_at"]))
            took.setdefault("begun to its first step", []).append(when(item["steps"][0]["started_at"]) - when(item["created_at"]))
            took.setdefault("whole operation", []).append(when(item["finished_at"]) - when(item["created_at"]))
        say(f"{self.label}: {kind} (median ms): " + ", ".join(f"{name} {median(all_):.2f}" for name, all_ in took.items()))

    def created(self, number):
        if not self.kept.ensure(number)["created"]:
            raise RuntimeError(f"preview {number} was there already")


# --- the parts -----------------------------------------------------------------------------------------------------

def bare_hand_outs(bench):
    """Two functions: the milliseconds of a hand-out by SQL with and without setting a verifier."""
    session = bench.server.operator()
    places = []
    for _ in range(4):
        name = next(bench.names)
        bench.psql(bench.bare.make(name))
        places.append(name)
    time.sleep(0.5)
    rounds = itertools.count()

    def hand_out(with_verifier):
        at = next(rounds) % len(places)
        old, new = places[at], next(bench.names)
        places[at] = new
        sql = f"ALTER DATABASE bare_{old} RENAME TO bare_{new};ALTER ROLE bare_app_{old} RENAME TO bare_app_{new}"
        if with_verifier:
            sql += f";ALTER ROLE bare_app_{new} PASSWORD '{verifier(new)}'"
        return timed(lambda: session.query(sql))[0]

    def end():
        session.close()
        for name in places:
            bench.psql(bench.bare.drop(name))

    return hand_out, end


def warm(bench, size):
    bench.start(size)
    hand_out, end = bare_hand_outs(bench)
    goal_on_disk = "" if "memory" in bench.label else "≤ 3 × setting the verifier"
    for what, numbers in [("the next number", None), ("a number that was not foreseen", 1000)]:
        bench.wait_pool(size)
        chosen = bench.numbers(size)
        if numbers:
            chosen = [chosen[0] + numbers * (n + 1) for n in range(size)]
            bench.next = chosen[-1] + 1
        ours, with_it, without = [], [], []
        for number in chosen:
            ours.append(timed(lambda: bench.created(number))[0])
            with_it.append(hand_out(True))
            without.append(hand_out(False))
        row(f"warm `ensure`, {what}, {bench.label}", f"{in_words(ours)} ms, p99 {p99(ours):.1f} ms",
            f"bare SQL {in_words(with_it)} ms, p99 {p99(with_it):.1f} ms; its verifier set before: {in_words(without)} ms",
            f"{ratio(ours, with_it)}; {ratio(ours, without)}", goal_on_disk or "p50 ≤ 8 ms, p99 ≤ 25 ms")
        bench.steps("preview.ensure", size)
        if not numbers and "existing" in bench.chosen.only:
            existing(bench, chosen)
        delete_burst(bench, chosen, numbers is None)
    for clients in (1, 4):
        bench.wait_pool(size)
        chosen = bench.numbers(size)
        took, failed = bench.at_once([lambda kept, n=n: kept.ensure(n) for n in chosen], clients)
        row(f"warm `ensure` until {size} are gone, {clients} client{'s' * (clients > 1)}, {bench.label}",
            f"{size / took:.0f} /s, {failed} failed", "", "", "≥ 120 /s")
        delete_burst(bench, chosen, False)
    end()
    bench.start(0)


def delete_burst(bench, numbers, tell):
    """Asks for the end of them all, one after the other without waiting, and then waits until they are gone."""
    took = [timed(lambda: bench.kept.delete(number, wait=False))[0] for number in numbers]
    if tell:
        row(f"`DELETE …?wait=false`, {len(took)} in a row, {bench.label}", f"{in_words(took)} ms, p99 {p99(took):.1f} ms", "",
            "", "p50 ≤ 10 ms (alone)")
    while bench.kept.call("GET", "/v1/previews")["items"]:
        time.sleep(0.1)


def existing(bench, numbers):
    """An `ensure` of what is there."""
    took, begun, server = [], [], bench.server
    for number in (numbers * 10)[:300]:
        took.append(timed(lambda: bench.kept.ensure(number))[0])
        login = ("127.0.0.1", server.port, f"medusa_pr_app_{number}", None, f"medusa_pr_{number}")
        spent, session = timed(lambda: Session(*login))
        session.close()
        begun.append(spent)
    row(f"`ensure` of what exists, {bench.label}", f"{in_words(took)} ms, p99 {p99(took):.1f} ms",
        f"beginning a login, which it does to see whether the password is ours: {in_words(begun)} ms", ratio(took, begun),
        "p50 ≤ 3 ms")


def cold(bench, rounds, goal="≤ 1.15 ×", keep=False):
    """A cold `ensure` and then the same by psql, so many times."""
    ours, theirs, bare = [], [], []
    for n in range(rounds + 1):
        number, name = bench.numbers(1)[0], next(bench.names)
        one = timed(lambda: bench.created(number))[0]
        other = bench.psql(bench.bare.make(name))
        say(f"{bench.label} {n}: cold ensure {one:.0f} ms, psql {other:.0f} ms")
        # The first one meets a server that has everything still to read.
        if n:
            ours.append(one)
            theirs.append(other)
            bare.append(bench.psql("SELECT 1;\n\\connect bare_" + name + "\n"))
        bench.kept.delete(number)
        bench.psql(bench.bare.drop(name))
    row(f"cold `ensure`, {bench.label}", f"{in_words(ours)} ms",
        f"psql {in_words(theirs)} ms (of it the process and two logins {in_words(bare)} ms)", ratio(ours, theirs), goal)
    bench.steps("preview.ensure", rounds)


def crowd(bench, count):
    numbers = bench.numbers(count)
    took, failed = bench.at_once([lambda kept, n=n: kept.ensure(n) for n in numbers], count)
    bench.steps("preview.ensure", count)
    bench.remove(numbers)
    names = [[next(bench.names) for _ in range(count // 2)] for _ in range(2)]
    scripts = [bench.server.script(f"worker-{n}.sql", "".join(bench.bare.make(name) for name in mine))
               for n, mine in enumerate(names)]

    def workers():
        return [worker.wait() for worker in [bench.server.psql(script) for script in scripts]]

    bare, statuses = timed(workers)
    for mine in names:
        # A worker that met another's change has not made them all.
        bench.server.psql(bench.server.script("drop.sql", "".join(
            bench.bare.drop(name).replace("DATABASE ", "DATABASE IF EXISTS ").replace("ROLE ", "ROLE IF EXISTS ")
            for name in mine))).wait()
    ours, theirs = count / took, count / (bare / 1000)
    row(f"{count} cold `ensure`s at once, {bench.label}", f"{ours:.1f} /s, {count - failed} of {count} succeed",
        f"two psql workers {theirs:.1f} /s" + ("" if statuses == [0, 0] else " (a worker failed: not comparable)"),
        f"{ours / theirs:.2f} ×", "≥ 0.9 ×, all succeed")


def delete(bench, rounds):
    alone, ours, theirs = [], [], []
    for _ in range(rounds):
        first, second = bench.numbers(2)
        name = next(bench.names)
        for number in (first, second):
            bench.created(number)
        bench.psql(bench.bare.make(name))
        took, answer = timed(lambda: bench.kept.delete(first, wait=False))
        alone.append(took)
        while bench.kept.call("GET", f"/v1/operations/{answer['id']}")["state"] not in ("succeeded", "failed"):
            time.sleep(0.02)
        ours.append(timed(lambda: bench.kept.delete(second))[0])
        theirs.append(bench.psql(bench.bare.drop(name)))
    row(f"`DELETE …?wait=false` answered, {bench.label}", f"{in_words(alone)} ms", "", "", "p50 ≤ 10 ms")
    row(f"`DELETE …?wait=true`, {bench.label}", f"{in_words(ours)} ms", f"psql {in_words(theirs)} ms", ratio(ours, theirs),
        "≤ 1.2 ×")
    bench.steps("preview.delete", rounds * 2)


def sessions(bench, rounds, count):
    """How long sessions of the app live after their end was asked for."""
    last, whole, bare = [], [], []
    for _ in range(rounds):
        number, name = bench.numbers(1)[0], next(bench.names)
        made = bench.kept.ensure(number)
        bench.psql(bench.bare.make(name))
        ways = [((made["app_user"], made["app_password"], made["db_name"]), lambda: bench.kept.delete(number)),
                ((f"bare_app_{name}", f"bare_app_{name}", f"bare_{name}"), lambda: bench.psql(bench.bare.drop(name)))]
        for way, (login, drop) in enumerate(ways):
            open_ = [Session("127.0.0.1", bench.server.port, *login) for _ in range(count)]
            begin, ends = time.perf_counter(), []

            def watch():
                poll, alive = select.epoll(), {one.socket.fileno(): one for one in open_}
                for number_ in alive:
                    poll.register(number_, select.EPOLLIN | select.EPOLLHUP)
                while alive:
                    for number_, _ in poll.poll():
                        if alive[number_].socket.recv(4096) == b"":
                            poll.unregister(number_)
                            del alive[number_]
                ends.append((time.perf_counter() - begin) * 1000)
                poll.close()

            watcher = threading.Thread(target=watch)
            watcher.start()
            took = timed(drop)[0]
            watcher.join()
            for one in open_:
                one.close()
            (bare if way else whole).append(took)
            if not way:
                last.append(ends[0])
    row(f"{count} sessions cut after a `DELETE`, {bench.label}", f"{in_words(last)} ms", "", "", "≤ 150 ms")
    row(f"the whole of it with `?wait=true`, {bench.label}", f"{in_words(whole)} ms", f"psql {in_words(bare)} ms",
        ratio(whole, bare), "≤ 1.2 ×")


# --- the places ----------------------------------------------------------------------------------------------------

def measure(pgdb, folder, label, fill, chosen, large):
    with bed(folder, fill, chosen.major, chosen.setting, log=chosen.log) as server, daemon_in(pgdb, folder) as daemon:
        bench = Bench(server, daemon, label, chosen)
        rounds = max(3, chosen.rounds // 3) if large else chosen.rounds
        if "cold" in chosen.only:
            cold(bench, rounds)
        if "delete" in chosen.only:
            delete(bench, rounds)
            sessions(bench, 3 if large else 5, 50)
        if "crowd" in chosen.only and not large:
            crowd(bench, chosen.crowd)
        if "warm" in chosen.only:
            warm(bench, 4 if large else chosen.pool)


@contextmanager
def xfs(folder):
    """A file system with reflinks in a file, as root."""
    work = tempfile.mkdtemp(prefix="pgdb-reflink-", dir=folder)
    image, mount = os.path.join(work, "image"), os.path.join(work, "mount")
    os.mkdir(mount)
    os.chmod(work, 0o755)
    mounted = False
    try:
        with open(image, "wb") as out:
            out.truncate(20 << 30)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True)
        mounted = True
        yield mount
    finally:
        if mounted:
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(work, ignore_errors=True)


def reflink(pgdb, chosen):
    if not ROOT:
        say("reflink: needs root, left out")
        return
    loading = ("wal_level=minimal", "max_wal_senders=0", "fsync=off", "max_wal_size=8GB")
    with xfs(chosen.disk) as mount:
        with bed(mount, lambda session: fill_wide(session, chosen.reflink_gb), 18, ("file_copy_method=clone", *chosen.setting),
                 loading, chosen.log) as server, daemon_in(pgdb, mount) as daemon:
            # Once to the file that the file system is in, and once to the disk that this is on.
            os.sync()
            os.sync()
            label = f"PostgreSQL 18, XFS, template of {server.template_bytes / 1e9:.1f} GB"
            cold(Bench(server, daemon, label, chosen), max(5, chosen.rounds // 2), "< 500 ms")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("pgdb")
    arguments.add_argument("--only", default="previews")
    arguments.add_argument("--places", default="memory,disk")
    arguments.add_argument("--large", action="store_true", help="a template of 1 GB as well")
    arguments.add_argument("--large-only", action="store_true", help="and not the one of 40 MB")
    arguments.add_argument("--major", type=int, help="of PostgreSQL; needs PGDB_ENGINES_DIR")
    arguments.add_argument("--setting", action="append", default=[], help="of PostgreSQL, such as log_statement=all")
    arguments.add_argument("--log", help="a file that PostgreSQL's log is added to")
    arguments.add_argument("--pool", type=int, default=60)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--crowd", type=int, default=100)
    arguments.add_argument("--reflink-gb", type=float, default=4)
    arguments.add_argument("--memory", default="/dev/shm")
    arguments.add_argument("--disk", default="/var/tmp")
    chosen = arguments.parse_args()
    chosen.only = PARTS if chosen.only == "previews" else chosen.only.split(",")
    chosen.large = chosen.large or chosen.large_only
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("| what | pgdb | beside it | ratio | goal |\n| --- | --- | --- | --- | --- |", flush=True)
    sizes = [] if chosen.large_only else [("40 MB", 380, False)]
    sizes += [("1 GB", 16500, True)] if chosen.large else []
    for place in chosen.places.split(","):
        for size, rows, large in sizes if set(chosen.only) - {"reflink"} else []:
            label = f"{size}, {place}"
            measure(chosen.pgdb, getattr(chosen, place), label, lambda session: fill_small(session, rows), chosen, large)
    if "reflink" in chosen.only:
        reflink(chosen.pgdb, chosen)


if __name__ == "__main__":
    main()

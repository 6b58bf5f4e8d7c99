#!/usr/bin/env python3
"""Measures previews side by side with the bare statements that they come to. Standard library only.

Usage: previews.py PGDB [--only warm,cold,crowd,delete,reflink] [--places memory,disk] [--large]
                   [--pool N] [--rounds N] [--crowd N] [--memory DIR] [--disk DIR] [--major N]
Prints a table in Markdown on standard output; progress goes to standard error. `reflink` needs root and XFS.
"""

import argparse
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

from common import ROOT, daemon_in, median, say, timed, when
from preview_bed import TEMPLATE, Bare, bed, fill_small, fill_wide
from preview_parts import cold, crowd, delete, sessions, warm

PARTS = ["warm", "cold", "crowd", "delete", "reflink"]


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

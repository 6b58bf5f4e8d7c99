#!/usr/bin/env python3
"""Measures `pgdb migrate` side by side with other runners and with a bare program. Standard library only.

Usage: migrations.py PGDB PGDB_BENCH PEERS [--only empty,nothing,crowd,watch] [--files 200,2000] [--rounds N]
                     [--places memory,disk] [--memory DIR] [--disk DIR] [--without TOOL,…] [--major N] [--setting S]
PEERS is the folder that the other runners are installed into. Prints a table in Markdown on standard output; progress
goes to standard error.
"""

import argparse
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from urllib.parse import quote

from common import Session, free_port, in_words, median, p99, ratio, row, say, timed
from migration_tools import floors, ours, peers
from preview_bed import Server, engine, workplace

PARTS = ["empty", "nothing", "crowd", "watch"]
AT_ONCE = 4
# Goals as the issue has them: at most this many times the other's time.
GOALS = {"floor": 1.2, "sqlx-cli": 0.55, "refinery": 0.55, "dbmate": 0.4, "node-pg-migrate": 0.4}
# For so many files there is a goal with nothing to do.
IDLE_GOAL_FOR = 2000
SQL_ALONE = "the SQL alone"


def statements(count, noted=False):
    """What small files are like: a table in every tenth, and one thing about it in each of those that follow. With
    `noted` each also writes down that it ran."""
    for n in range(count):
        table = f"things_{n // 10}"
        sql = [
            f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);",
            f"ALTER TABLE {table} ADD COLUMN kind integer;",
            f"CREATE INDEX ON {table} (kind);",
            f"INSERT INTO {table} (name, kind) VALUES ('first', 1), ('second', 2);",
            f"ALTER TABLE {table} ADD COLUMN note text;",
            f"UPDATE {table} SET note = 'none' WHERE note IS NULL;",
            f"ALTER TABLE {table} ADD CONSTRAINT kind_{n} CHECK (kind >= 0);",
            f"CREATE VIEW latest_{n} AS SELECT id, name FROM {table} ORDER BY id DESC LIMIT 10;",
            f"COMMENT ON TABLE {table} IS 'things of kind {n}';",
            f"DELETE FROM {table} WHERE kind = 2;",
        ][n % 10]
        first = "CREATE TABLE IF NOT EXISTS ran (number integer NOT NULL);\n" if noted and n == 0 else ""
        yield f"{first}{sql}\n" + (f"INSERT INTO ran VALUES ({n});\n" if noted else "")


@contextmanager
def server_in(folder, major, settings):
    """A server of its own without a template, with the settings that PostgreSQL comes with but for those given."""
    work = workplace(folder, "pgdb-migrations-")
    server = Server(engine(major), work, ["max_connections=100", *settings])
    try:
        server.make()
        server.start()
        say(f"PostgreSQL {server.version} in {work}")
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(work, ignore_errors=True)


class Bench:
    def __init__(self, server, label, chosen, tools):
        self.server, self.label, self.chosen, self.tools = server, label, chosen, tools
        self.count = 0

    @contextmanager
    def database(self):
        """An empty one, and its URL."""
        self.count += 1
        name = f"bench_{self.count}"
        admin = self.server.admin()
        admin.query(f"CREATE DATABASE {name} TEMPLATE template0")
        admin.query("CHECKPOINT")
        try:
            password = quote(self.server.password, safe="")
            yield name, f"postgres://postgres:{password}@127.0.0.1:{self.server.port}/{name}?sslmode=disable"
        finally:
            admin.query(f"DROP DATABASE {name} WITH (FORCE)")
            admin.close()

    def applied(self, name, tool):
        """How many rows the tool's ledger has."""
        session = self.server.admin(name)
        answer = session.query(f"SELECT count(*) FROM {tool.ledger}")[0]
        session.close()
        return int(answer)

    def ran(self, name):
        """How many files ran, and how many different ones: of those that write it down."""
        session = self.server.admin(name)
        answer = session.query("SELECT count(*) || ' ' || count(DISTINCT number) FROM ran")[0]
        session.close()
        return tuple(int(number) for number in answer.split())

    @contextmanager
    def files(self, count, noted=False):
        """The folder of each tool with so many files."""
        work = tempfile.mkdtemp(prefix="pgdb-files-", dir=self.chosen.memory)
        os.chmod(work, 0o755)
        try:
            yield {tool.label: tool.write(work, statements(count, noted)) for tool in self.tools}
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def both(self, count):
        """Into an empty database, and then with nothing to do; the order changes every round."""
        filled = {tool.label: [] for tool in self.tools} | {SQL_ALONE: []}
        idle = {tool.label: [] for tool in self.tools}
        with self.files(count) as folders:
            for number in range(self.chosen.rounds + 1):
                order = self.tools[number % len(self.tools):] + self.tools[:number % len(self.tools)]
                for tool in order:
                    with self.database() as (name, url):
                        folder = folders[tool.label]
                        took, _ = timed(lambda: tool.run(folder, url))
                        assert self.applied(name, tool) == count, f"{tool.label}: {self.applied(name, tool)}"
                        nothing = [timed(lambda: tool.run(folder, url))[0] for _ in range(3)]
                        assert self.applied(name, tool) == count, f"{tool.label}: {self.applied(name, tool)}"
                    # The first round warms caches up.
                    if number > 0:
                        filled[tool.label].append(took)
                        idle[tool.label].append(median(nothing))
                took = self.sql_alone(count)
                if number > 0:
                    filled[SQL_ALONE].append(took)
                say(f"{self.label}: {count} files, round {number}")
        if "empty" in self.chosen.only:
            self.tell_filled(count, filled)
        if "nothing" in self.chosen.only:
            self.tell_idle(count, idle)

    def sql_alone(self, count):
        """What the server itself needs: all of the SQL as one message, in one transaction, without a ledger, without
        the start of a program, and without a login."""
        sql = "".join(statements(count))
        with self.database() as (name, _):
            session = self.server.admin(name)
            took, _ = timed(lambda: session.query(sql))
            session.close()
        return took

    def tell_filled(self, count, filled):
        for label, theirs in filled.items():
            if label == "pgdb":
                continue
            goal = GOALS.get(label)
            met = goal and median(filled["pgdb"]) <= goal * median(theirs)
            row(f"{count:,} files into an empty database, {self.label}", f"{in_words(filled['pgdb'])} ms",
                f"{label} {in_words(theirs)} ms", ratio(filled["pgdb"], theirs),
                f"≤ {goal} × | {'met' if met else 'missed'}" if goal else " | ")

    def tell_idle(self, count, idle):
        others = {label: times for label, times in idle.items() if label in GOALS and label != "floor"}
        if not others:
            return
        fastest = min(others, key=lambda label: median(others[label]))
        beside = ", ".join(f"{label} {in_words(times)} ms" for label, times in idle.items() if label != "pgdb")
        met = median(idle["pgdb"]) <= median(others[fastest])
        goal = f"not slower than the fastest of them ({fastest}) | {'met' if met else 'missed'}"
        row(f"nothing to do, {count:,} files, {self.label}", f"{in_words(idle['pgdb'])} ms", beside,
            ratio(idle["pgdb"], others[fastest]), goal if count == IDLE_GOAL_FOR else " | ")

    def crowd(self, count):
        """Several at once on one empty database."""
        with self.files(count, noted=True) as folders:
            for tool in self.tools:
                if tool.label.startswith("floor"):
                    continue
                with self.database() as (name, url):
                    took, (ended, said) = timed(lambda: self.at_once(tool, folders[tool.label], url))
                    try:
                        ran, once = self.ran(name)
                    except RuntimeError:
                        ran, once = 0, 0
                fine = ended.count(0)
                for text in said:
                    say(f"{tool.label}: {text.strip()[-200:]}")
                good = fine == AT_ONCE and ran == once == count
                row(f"{AT_ONCE} × {tool.label} at once, {count:,} files, {self.label}",
                    f"{fine} of {AT_ONCE} exit 0; {ran:,} files ran, {once:,} of them different; {took:.0f} ms", "", "",
                    f"all exit 0, each file once | {'met' if good else 'missed'}" if tool.label == "pgdb" else " | ")

    @staticmethod
    def at_once(tool, folder, url):
        running = [tool.start(folder, url) for _ in range(AT_ONCE)]
        said = [process.communicate()[1].decode(errors="replace") for process in running]
        ended = [process.returncode for process in running]
        return ended, [text for text, status in zip(said, ended) if status != 0]

    def watch(self, pgdb):
        """From a file's rename into its place to its row being visible to another session."""
        with self.files(0) as folders, self.database() as (name, url):
            folder = os.path.join(folders["pgdb"], "app")
            port = free_port()
            kept = {key: value for key, value in os.environ.items() if not key.startswith(("PGDB_", "PG", "DATABASE"))}
            environment = kept | {"DATABASE_URL": url, "MIGRATIONS_DIR": folders["pgdb"], "HEALTH_PORT": str(port),
                                  "CONFIGMAP_PATH": os.path.join(folders["pgdb"], "nowhere")}
            with open(os.path.join(folder, "00000_ran.sql"), "w") as out:
                out.write("CREATE TABLE ran (number integer NOT NULL);\n")
            with tempfile.TemporaryFile() as log:
                process = subprocess.Popen([pgdb, "migrate", "watch"], env=environment, stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log)
                try:
                    self.wait_ready(process, port, log)
                    session = self.server.admin(name)
                    times = [self.one_change(session, folder, n) for n in range(1, self.chosen.changes + 1)]
                    session.close()
                finally:
                    process.terminate()
                    process.wait(30)
        met = median(times) < 300
        row(f"watch: a file written to its row committed, {self.label}", f"{in_words(times)} ms, p99 {p99(times):.0f} ms",
            "", "", f"p50 < 300 ms | {'met' if met else 'missed'}")

    @staticmethod
    def wait_ready(process, port, log):
        for _ in range(1500):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/readiness")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            if process.poll() is not None:
                break
            time.sleep(0.02)
        log.seek(0)
        raise RuntimeError(f"the watcher was not ready: {log.read().decode(errors='replace')[-2000:]}")

    @staticmethod
    def one_change(session: Session, folder, number):
        aside = os.path.join(folder, f".{number}.making")
        with open(aside, "w") as out:
            out.write(f"INSERT INTO ran VALUES ({number});\n")
        begin = time.perf_counter()
        os.rename(aside, os.path.join(folder, f"{number:05}_step.sql"))
        while not session.query(f"SELECT 1 FROM ran WHERE number = {number}"):
            if time.perf_counter() - begin > 60:
                raise RuntimeError("the watcher did not see a new file for a minute")
            time.sleep(0.001)
        took = (time.perf_counter() - begin) * 1000
        # Not the rhythm of the watcher's own ticks.
        time.sleep(0.13 + number % 7 * 0.05)
        return took


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pgdb")
    parser.add_argument("bench")
    parser.add_argument("peers")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--files", default="200,2000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--places", default="memory,disk")
    parser.add_argument("--memory", default="/dev/shm")
    parser.add_argument("--disk", default=tempfile.gettempdir())
    parser.add_argument("--without", default="")
    parser.add_argument("--major", type=int)
    parser.add_argument("--setting", action="append", default=[])
    chosen = parser.parse_args()
    # Everybody runs in a folder of its own.
    chosen.pgdb, chosen.bench, chosen.peers = map(os.path.abspath, (chosen.pgdb, chosen.bench, chosen.peers))
    chosen.only = chosen.only.split(",")
    # `bench/run.sh --only migrations` measures everything.
    if chosen.only == ["migrations"]:
        chosen.only = PARTS
    unknown = set(chosen.only) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    return chosen


def main():
    chosen = arguments()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    without = chosen.without.split(",")
    own = [ours(chosen.pgdb), *floors(chosen.bench)]
    tools = [tool for tool in own if tool.label not in without] + peers(chosen.peers, without)
    counts = [int(number) for number in chosen.files.split(",")]
    print("| what | pgdb | beside it | ratio | goal | |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for place in chosen.places.split(","):
        with server_in(getattr(chosen, place), chosen.major, chosen.setting) as server:
            bench = Bench(server, place, chosen, tools)
            for count in counts:
                if {"empty", "nothing"} & set(chosen.only):
                    bench.both(count)
            if "crowd" in chosen.only:
                bench.crowd(counts[0])
            if "watch" in chosen.only:
                bench.watch(chosen.pgdb)


if __name__ == "__main__":
    main()

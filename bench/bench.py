#!/usr/bin/env python3
"""Measures what pgdb promises, side by side with what it is compared to. Standard library only.

Usage: bench.py PGDB PGDB_BENCH [--runs N] [--disk DIR] [--memory DIR] [--only deploy,status,idle,cli]
Prints tables in Markdown on standard output; progress goes to standard error.
"""

import argparse
import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

from common import (ENGINE, MAJOR, ROOT, RUN_AS, daemon_in, free_port, median, say, select_one, spread,
                    wait_for_select_one, when)

# --- a deploy against the floor and against initdb -----------------------------------------------------------------

def stop_server(child):
    child.send_signal(signal.SIGINT)
    child.wait(30)


class Floor:
    """The prepared directory with one role that can log in, copied and started by hand."""

    LOGIN = ("floor", "floor-password", "postgres")

    def __init__(self, daemon, work):
        self.work = work
        prepared = [entry.path for entry in os.scandir(os.path.join(daemon.data_dir, "prepared"))
                    if entry.is_dir() and entry.name.startswith(f"{MAJOR}-")]
        self.prepared = os.path.join(prepared[0], "data")
        instances = os.path.join(daemon.data_dir, "instances")
        one = os.path.join(instances, sorted(os.listdir(instances))[0], "data", "pgdb.conf")
        with open(one) as settings:
            self.settings = settings.read()
        self.source = os.path.join(work, "source")
        self.make_source()

    def launch(self, data, port):
        drop = ("port ", "unix_socket_directories", "log_directory", "logging_collector", "listen_addresses")
        lines = [line for line in self.settings.splitlines() if not line.startswith(drop)]
        lines += [f"port = {port}", "listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{self.work}'",
                  f"log_directory = '{self.work}/log'", "logging_collector = on"]
        with open(os.path.join(data, "pgdb.conf"), "w") as settings:
            settings.write("\n".join(lines) + "\n")
        os.chmod(os.path.join(data, "pgdb.conf"), 0o644)
        return subprocess.Popen([f"{ENGINE}/postgres", "-D", data], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **RUN_AS)

    def make_source(self):
        subprocess.run(["cp", "-a", self.prepared, self.source], check=True)
        sql = (f"CREATE ROLE {self.LOGIN[0]} LOGIN PASSWORD '{self.LOGIN[1]}';")
        drop = ("unix_socket_directories", "log_directory", "logging_collector")
        lines = [line for line in self.settings.splitlines() if not line.startswith(drop)]
        with open(os.path.join(self.source, "pgdb.conf"), "w") as settings:
            settings.write("\n".join(lines) + "\n")
        os.chmod(os.path.join(self.source, "pgdb.conf"), 0o644)
        subprocess.run([f"{ENGINE}/postgres", "--single", "-D", self.source, "postgres"], input=sql, text=True,
                       check=True, stdout=subprocess.DEVNULL, **RUN_AS)

    def run(self, number):
        data, port = os.path.join(self.work, f"floor-{number}"), free_port()
        begin = time.perf_counter()
        subprocess.run(["cp", "-a", self.source, data], check=True)
        copied = time.perf_counter()
        child = self.launch(data, port)
        try:
            wait_for_select_one("127.0.0.1", port, *self.LOGIN)
            took = time.perf_counter() - begin
        finally:
            stop_server(child)
        shutil.rmtree(data)
        return took * 1000, (copied - begin) * 1000


def initdb_run(work, number):
    data, port = os.path.join(work, f"initdb-{number}"), free_port()
    password = os.path.join(work, "password")
    with open(password, "w") as file:
        file.write("initdb-password\n")
    os.chmod(password, 0o644)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    begin = time.perf_counter()
    subprocess.run([f"{ENGINE}/initdb", "-D", data, "-A", "scram-sha-256", "-U", "postgres", "--pwfile", password],
                   check=True, **quiet, **RUN_AS)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={work}"
    subprocess.run([f"{ENGINE}/pg_ctl", "-w", "-D", data, "-o", options, "-l", os.path.join(data, "log"), "start"],
                   check=True, **quiet, **RUN_AS)
    wait_for_select_one("127.0.0.1", port, "postgres", "initdb-password", "postgres")
    took = time.perf_counter() - begin
    subprocess.run([f"{ENGINE}/pg_ctl", "-m", "fast", "-w", "-D", data, "stop"], check=True, **quiet, **RUN_AS)
    shutil.rmtree(data)
    return took * 1000


def deploy_run(daemon, number):
    begin = time.perf_counter()
    made = daemon.call("POST", "/v1/deploy", {"name": f"bench-{number}", "version": MAJOR})
    answered = time.perf_counter()
    select_one("127.0.0.1", made["port"], made["user"], made["password"], made["db"])
    took = time.perf_counter() - begin
    daemon.call("DELETE", f"/v1/db/bench-{number}")
    return took * 1000, (answered - begin) * 1000


def bench_deploy(pgdb, folder, label, runs):
    with daemon_in(pgdb, folder) as daemon, tempfile.TemporaryDirectory(prefix="pgdb-floor-", dir=folder) as work:
        os.chmod(work, 0o755)
        if ROOT:
            account = pwd.getpwnam("postgres")
            os.chown(work, account.pw_uid, account.pw_gid)
        daemon.start()
        daemon.call("POST", "/v1/deploy", {"name": "bench-first", "version": MAJOR})
        floor = Floor(daemon, work)
        daemon.call("DELETE", "/v1/db/bench-first")
        deploys, floors, initdbs = [], [], []
        for number in range(runs):
            deploys.append(deploy_run(daemon, number))
            floors.append(floor.run(number))
            if number % 3 == 0:
                initdbs.append(initdb_run(work, number))
            say(f"{label} {number}: deploy {deploys[-1][0]:.0f} ms, floor {floors[-1][0]:.0f} ms "
                f"(copy {floors[-1][1]:.0f}), initdb {initdbs[-1]:.0f} ms")
        ours, bare = [d[0] for d in deploys], [f[0] for f in floors]
        print(f"| deploy to `SELECT 1`, {label} | {spread(ours)} ms | floor {spread(bare)} ms | "
              f"{median(ours) / median(bare):.2f} × | ≤ 1.2 × |")
        print(f"| deploy to `SELECT 1`, {label} | {spread(ours)} ms | `initdb` + `pg_ctl -w` {spread(initdbs)} ms | "
              f"{median(ours) / median(initdbs):.2f} × | ≤ 0.33 × |", flush=True)
        bench_steps(daemon, label)


def bench_steps(daemon, label):
    operations = daemon.call("GET", "/v1/operations?kind=instance.deploy&state=succeeded&limit=500")["items"]
    gaps, durations = [], {}
    for operation in operations[:-1]:
        steps = operation["steps"]
        for before, after in zip(steps, steps[1:]):
            gaps.append(when(after["started_at"]) - when(before["finished_at"]))
        for step in steps:
            durations.setdefault(step["name"], []).append(when(step["finished_at"]) - when(step["started_at"]))
        durations.setdefault("asked → first step", []).append(when(steps[0]["started_at"]) - when(operation["created_at"]))
        durations.setdefault("whole operation", []).append(when(operation["finished_at"]) - when(operation["created_at"]))
    if len(gaps) < 2:
        return
    gaps.sort()
    print(f"| one step's end to the next one's start, {label}, {len(gaps)} pairs | p50 {median(gaps):.2f} ms, "
          f"p99 {gaps[int(len(gaps) * 0.99)]:.2f} ms | | | p99 < 5 ms |")
    say(f"steps, {label} (median ms): " + ", ".join(f"{name} {median(all_):.1f}" for name, all_ in durations.items()))


# --- many instances in state -----------------------------------------------------------------------------------

def quarter(s, a, b, c, d):
    for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & 0xFFFFFFFF
        s[z] ^= s[x]
        s[z] = ((s[z] << bits) | (s[z] >> (32 - bits))) & 0xFFFFFFFF


def rounds(state):
    for _ in range(10):
        for a in range(4):
            quarter(state, a, a + 4, a + 8, a + 12)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(state, a, b, c, d)
    return state


CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")


def chacha_block(key, counter, nonce):
    start = [*CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(rounds(list(start)), start)))


def seal(key, owner, text):
    """As `secrets/` of the server does: version, key id, nonce, XChaCha20-Poly1305."""
    nonce = secrets.token_bytes(24)
    hashed = rounds([*CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce[:16])])
    subkey, short = struct.pack("<8I", *hashed[:4], *hashed[12:]), b"\0\0\0\0" + nonce[16:]
    stream = b"".join(chacha_block(subkey, 1 + n, short) for n in range((len(text) + 63) // 64))
    sealed = bytes(a ^ b for a, b in zip(text, stream))
    one_time = chacha_block(subkey, 0, short)
    pad = lambda data: data + b"\0" * (-len(data) % 16)
    message = pad(owner) + pad(sealed) + struct.pack("<QQ", len(owner), len(sealed))
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at:at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    tag = ((total + int.from_bytes(one_time[16:32], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")
    return b"\1" + hashlib.sha256(key).digest()[:4] + nonce + sealed + tag


def add_instances(daemon, count, runtime="process"):
    key, now = bytes.fromhex(daemon.key), int(time.time() * 1e6)
    with sqlite3.connect(os.path.join(daemon.data_dir, "state.db")) as state:
        for n in range(count):
            identifier, name = f"in_bench{n:012}", f"row-{n:05}"
            password = seal(key, f"instances/{identifier}/password".encode(), secrets.token_urlsafe(32).encode())
            state.execute(
                "INSERT INTO instances (id, name, runtime, major, listen, port, db, user, password, volume, "
                "system_identifier, tls, superuser, protected, desired, state, created_at) "
                "VALUES (?, ?, ?, ?, '127.0.0.1', ?, ?, ?, ?, ?, ?, 0, 0, 0, 'stopped', 'stopped', ?)",
                (identifier, name, runtime, MAJOR, 22000 + n, f"pg_{n:010}", f"u_{n:010}", password, f"pgdb-{name}",
                 7000000000000000000 + n, now))
    state.close()


def add_operations(daemon, count):
    now = int(time.time() * 1e6) - 3_600_000_000
    policy = json.dumps({})
    with sqlite3.connect(os.path.join(daemon.data_dir, "state.db")) as state:
        found = state.execute("SELECT policy FROM steps LIMIT 1").fetchone()
        policy = found[0] if found else policy
        for n in range(count):
            at = now + n * 1000
            seq = state.execute(
                "INSERT INTO operations (id, kind, subject, input, state, created_at, finished_at) "
                "VALUES (?, 'instance.deploy', ?, '{}', 'succeeded', ?, ?)",
                (f"op_0bench{n:010}", f"instance/old-{n % 500}", at, at + 900)).lastrowid
            state.executemany(
                "INSERT INTO steps (operation_seq, position, name, policy, state, attempt, started_at, finished_at, "
                "output) VALUES (?, ?, ?, ?, 'succeeded', 1, ?, ?, 'null')",
                [(seq, position, f"step-{position}", policy, at, at + 100) for position in range(6)])
    state.close()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def load(tool, address, token, seconds):
    done = subprocess.run([tool, "load", address, "/v1/status", token, "16", str(seconds)], check=True,
                          capture_output=True, text=True)
    return float(done.stdout)


def bench_status(pgdb, tool, folder, seconds, with_cli):
    with daemon_in(pgdb, folder) as daemon, ExitStack() as stack:
        daemon.start()
        daemon.stop()
        add_instances(daemon, 100)
        daemon.start()
        time.sleep(2)
        body = daemon.ask("GET", "/v1/status")[1]
        assert len(json.loads(body)["items"]) == 100
        file = daemon.data_dir + ".json"
        with open(file, "wb") as out:
            out.write(body)
        bare = stack.enter_context(subprocess.Popen([tool, "bare", file], stdout=subprocess.PIPE, text=True))
        stack.callback(bare.terminate)
        peer = bare.stdout.readline().strip()
        ours, theirs = [], []
        for n in range(8):
            pair = [(ours, f"127.0.0.1:{daemon.port}"), (theirs, peer)]
            for results, address in pair if n % 2 else reversed(pair):
                results.append(load(tool, address, daemon.token, seconds))
            say(f"status {n}: {ours[-1]:.0f}/s, bare {theirs[-1]:.0f}/s")
        print(f"| `GET /v1/status`, 100 instances, {len(body)} bytes, 16 connections | {spread(ours)} /s | "
              f"bare axum {spread(theirs)} /s | {median(ours) / median(theirs):.2f} × | ≥ 0.6 × |", flush=True)
        if with_cli:
            times = []
            for _ in range(105):
                begin = time.perf_counter()
                subprocess.run([pgdb, "status"], env=daemon.environment(), check=True, stdout=subprocess.DEVNULL)
                times.append((time.perf_counter() - begin) * 1000)
            print(f"| `pgdb status` as a process, 100 instances | {median(times[5:]):.1f} ms | | | < 15 ms |",
                  flush=True)


def bench_idle(pgdb, folder, seconds):
    with daemon_in(pgdb, folder) as daemon:
        daemon.start()
        daemon.stop()
        say("idle: writing 1,000 instances and 100,000 operations")
        add_instances(daemon, 1000)
        daemon.start()
        for _ in range(50):
            assert len(daemon.call("GET", "/v1/status")["items"]) == 1000
        time.sleep(3)
        memory = rss_mib(daemon.child.pid)
        print(f"| RSS with 1,000 instances | {memory:.0f} MiB | | | < 60 MiB |", flush=True)
        daemon.stop()
        add_operations(daemon, 100_000)
        daemon.start()
        daemon.call("GET", "/v1/operations?limit=500")
        time.sleep(5)
        print(f"| CPU at rest over {seconds} s, 1,000 instances, 100,000 operations | "
              f"{cpu_share(daemon.child.pid, seconds):.2f} % of a core, {rss_mib(daemon.child.pid):.0f} MiB | | | < 1 % |",
              flush=True)


def bench_running(pgdb, folder, seconds, count=100):
    """What servers that really run cost the daemon that looks after them."""
    with daemon_in(pgdb, folder) as daemon:
        daemon.start()
        begin = time.perf_counter()
        for n in range(count):
            daemon.call("POST", "/v1/deploy", {"name": f"bench-{n}", "memory_mb": 64, "max_connections": 10})
        say(f"running: {count} deploys, one after the other, in {time.perf_counter() - begin:.1f} s")
        time.sleep(5)
        share = cpu_share(daemon.child.pid, seconds)
        print(f"| CPU at rest over {seconds} s and RSS, {count} running servers | {share:.2f} % of a core, "
              f"{rss_mib(daemon.child.pid):.0f} MiB | | | < 1 %, < 60 MiB |", flush=True)


def cpu_share(pid, seconds):
    """Percent of a core that a process takes."""
    ticks, begin = cpu_ticks(pid), time.perf_counter()
    time.sleep(seconds)
    used = (cpu_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK")
    return used / (time.perf_counter() - begin) * 100


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("pgdb")
    arguments.add_argument("tool")
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--idle", type=int, default=35)
    arguments.add_argument("--memory", default="/dev/shm")
    arguments.add_argument("--disk", default="/var/tmp")
    arguments.add_argument("--only", default="deploy,status,cli,idle,running")
    chosen = arguments.parse_args()
    only = chosen.only.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("| what | pgdb | beside it | ratio | goal |\n| --- | --- | --- | --- | --- |", flush=True)
    if "deploy" in only:
        bench_deploy(chosen.pgdb, chosen.memory, "memory", chosen.runs)
        bench_deploy(chosen.pgdb, chosen.disk, "disk", chosen.runs)
    if "status" in only or "cli" in only:
        bench_status(chosen.pgdb, chosen.tool, chosen.memory, chosen.seconds, "cli" in only)
    if "idle" in only:
        bench_idle(chosen.pgdb, chosen.memory, chosen.idle)
    if "running" in only:
        bench_running(chosen.pgdb, chosen.memory, chosen.idle)


if __name__ == "__main__":
    main()

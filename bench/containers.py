#!/usr/bin/env python3
"""Measures databases in containers beside a bare script that runs the same image. Standard library only.

Usage: containers.py PGDB [--only deploy,ready,status] [--runs N] [--count N] [--major N] [--memory DIR]
Needs root, `docker` and `dockerd`, and the images of scripts/install-test-deps.sh. Starts an engine of its own.
Prints a table in Markdown on standard output; progress goes to standard error.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

from bench import add_instances
from common import (NotReady, daemon_in, free_port, in_words, median, ratio, read_message, row, say, select_one, timed,
                    wait_for_select_one, when)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT_DIR = os.path.dirname(HERE)
SCRIPT = os.path.join(ROOT_DIR, "crates/testkit/src/docker/engine.sh")
IMAGES = os.environ.get("PGDB_IMAGES_DIR", os.path.join(ROOT_DIR, ".parts/images"))
# Docker's own, wherever another program of that name may be.
DOCKER = next(path for path in ("/usr/bin/docker", shutil.which("docker")) if path and os.path.exists(path))


# --- an engine -------------------------------------------------------------------------------------------------------

class Unix(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path):
        super().__init__("engine", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Engine:
    def __init__(self, folder):
        self.socket = os.path.join(folder, "socket")
        self.environment = dict(os.environ, ENGINE="docker", FOLDER=folder, NAME="dgbench")
        self.log = os.path.join(folder, "log")

    def run(self, action):
        subprocess.run(["bash", SCRIPT, action], env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def ask(self, method, path, body=None):
        connection = Unix(self.socket)
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, "/v1.41" + path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {said[:300]}"
            return json.loads(said) if said.strip() else None
        finally:
            connection.close()

    def wait(self):
        for _ in range(3000):
            try:
                return self.ask("GET", "/version")
            except OSError:
                time.sleep(0.01)
        with open(self.log) as log:
            raise RuntimeError(log.read()[-2000:])

    def docker(self, *arguments):
        done = subprocess.run([DOCKER, *arguments], env=dict(os.environ, DOCKER_HOST=f"unix://{self.socket}"),
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"docker {arguments[0]}: {done.stderr}")
        return done.stdout.strip()


@contextmanager
def engine_in(folder, majors):
    engine = Engine(os.path.join(folder, "pgdb-engine-bench"))
    engine.run("end")
    engine.run("start")
    try:
        version = engine.wait()["Version"]
        for major in majors:
            engine.docker("load", "--input", os.path.join(IMAGES, f"postgres-{major}.tar"))
        say(f"Docker {version}, its data in {folder}")
        yield engine
    finally:
        engine.run("end")


# --- a deploy beside a bare script -----------------------------------------------------------------------------------

def bare_run(engine, major, number):
    """What a script does: run the image with a volume and a port, and ask until it answers."""
    name, port = f"bare-{number}", free_port()
    mount = "/var/lib/postgresql" + ("/data" if major < 18 else "")
    login = ("someone", "a-password", "something")
    begin = time.perf_counter()
    engine.docker("run", "--detach", "--name", name, "--volume", f"{name}:{mount}", "--publish", f"127.0.0.1:{port}:5432",
                  *(part for pair in zip(("USER", "PASSWORD", "DB"), login)
                    for part in ("--env", f"POSTGRES_{pair[0]}={pair[1]}")), f"postgres:{major}")
    wait_for_select_one("127.0.0.1", port, *login)
    took = (time.perf_counter() - begin) * 1000
    engine.docker("rm", "--force", name)
    engine.docker("volume", "rm", name)
    return took


def deploy_run(daemon, major, number):
    begin = time.perf_counter()
    made = daemon.call("POST", "/v1/deploy", {"name": f"bench-{number}", "version": major})
    select_one("127.0.0.1", made["port"], made["user"], made["password"], made["db"])
    took = (time.perf_counter() - begin) * 1000
    daemon.call("DELETE", f"/v1/db/bench-{number}")
    return took


def bench_deploy(engine, daemon, major, runs):
    # The first of each fills caches, and is not counted.
    deploy_run(daemon, major, "first")
    bare_run(engine, major, "first")
    ours, bare = [], []
    for number in range(runs):
        sides = [lambda: ours.append(deploy_run(daemon, major, number)),
                 lambda: bare.append(bare_run(engine, major, number))]
        for side in sides if number % 2 else reversed(sides):
            side()
        say(f"deploy {number}: {ours[-1]:.0f} ms, bare {bare[-1]:.0f} ms")
    row(f"deploy to `SELECT 1`, `postgres:{major}`", f"{in_words(ours)} ms", f"`docker run` + ready {in_words(bare)} ms",
        ratio(ours, bare), "≤ 1.15 ×")


# --- when readiness is noticed ---------------------------------------------------------------------------------------

def accepts(port):
    """Whether PostgreSQL asks who is there for a password, and not a proxy before it is up."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            body = struct.pack("!I", 196608) + b"user\0nobody-of-the-bench\0\0"
            connection.sendall(struct.pack("!I", len(body) + 4) + body)
            return read_message(connection.makefile("rb"))[0] == b"R"
    except (NotReady, OSError):
        return False
    except RuntimeError:
        # Refused by name, by a server that is up.
        return True


def bench_ready(daemon, major, runs):
    """The end of the step that waits, by the daemon's clock, minus when another client was first let in."""
    port, late = int(daemon.more["PGDB_PORT_RANGE"].split("-")[0]), []
    for number in range(runs):
        name, seen = f"bench-ready-{number}", []

        def watch():
            while not accepts(port):
                time.sleep(0.001)
            seen.append(time.time() * 1000)

        watcher = threading.Thread(target=watch)
        watcher.start()
        made = daemon.call("POST", "/v1/deploy", {"name": name, "version": major})
        watcher.join()
        assert made["port"] == port, "another port than was watched"
        operation = daemon.call("GET", "/v1/operations?kind=instance.deploy&limit=1")["items"][0]
        started = next(step for step in operation["steps"] if step["name"] == "start")
        late.append(max(0.0, when(started["finished_at"]) - seen[0]))
        daemon.call("DELETE", f"/v1/db/{name}")
        say(f"ready {number}: noticed after {late[-1]:.1f} ms")
    row("readiness noticed after PostgreSQL takes connections", f"{in_words(late)} ms, at most {max(late):.0f} ms", "", "",
        "≤ 50 ms")


# --- the status of many ----------------------------------------------------------------------------------------------

class Recorder(socketserver.ThreadingUnixStreamServer):
    """A socket before the engine's that notes what is asked."""

    daemon_threads = True

    def __init__(self, path, engine):
        self.engine, self.calls = engine, []
        super().__init__(path, Recorded)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Recorded(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.engine)
            back = threading.Thread(target=self.copy, args=(engine, self.request, None), daemon=True)
            back.start()
            self.copy(self.request, engine, self.server.calls)
            back.join()

    @staticmethod
    def copy(source, target, calls):
        try:
            while data := source.recv(65536):
                if calls is not None:
                    line = data.split(b"\r\n", 1)[0]
                    if line.endswith(b" HTTP/1.1"):
                        calls.append(line.decode().rsplit(" ", 1)[0])
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def bench_status(engine, pgdb, folder, major, count, runs):
    with daemon_in(pgdb, folder) as daemon:
        recorder = Recorder(os.path.join(os.path.dirname(daemon.data_dir), "recorder"), engine.socket)
        try:
            daemon.more = settings(f"unix://{recorder.server_address}", free_port())
            daemon.start()
            daemon.call("POST", "/v1/deploy", {"name": "bench-model", "version": major})
            model = engine.ask("GET", "/containers/pgdb-bench-model/json")
            daemon.call("DELETE", "/v1/db/bench-model")
            daemon.stop()
            add_instances(daemon, count, "docker")
            for n in range(count):
                labels = dict(model["Config"]["Labels"], **{"pgdb.id": f"in_bench{n:012}", "pgdb.name": f"row-{n:05}"})
                body = {"Image": f"postgres:{major}", "Labels": labels}
                engine.ask("POST", f"/containers/create?name=pgdb-row-{n:05}", body)
            del recorder.calls[:]
            daemon.start()
            time.sleep(2)
            starting = [call for call in recorder.calls if "/containers" in call]
            del recorder.calls[:]
            took = []
            for _ in range(runs):
                spent, answer = timed(lambda: daemon.call("GET", "/v1/status"))
                assert len(answer["items"]) == count
                took.append(spent)
            asked = len(recorder.calls) / runs
            row(f"`GET /v1/status`, {count} containers", f"{in_words(took)} ms, {asked:g} calls to the engine", "", "",
                "< 50 ms, at most one call")
            row(f"the daemon's start, {count} containers", f"{len(starting)} calls about containers", "", "", "")
            say("calls at the start:", *starting[:5])
        finally:
            recorder.shutdown()
            recorder.server_close()
            for container in engine.ask("GET", "/containers/json?all=true"):
                engine.ask("DELETE", f"/containers/{container['Id']}?force=true&v=true")


def settings(host, port):
    return {"PGDB_RUNTIME": "docker", "DOCKER_HOST": host, "PGDB_PORT_RANGE": f"{port}-{port}"}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("pgdb")
    arguments.add_argument("--only", default="deploy,ready,status")
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--major", type=int, default=16)
    arguments.add_argument("--memory", default="/dev/shm")
    chosen = arguments.parse_args()
    only = chosen.only.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with engine_in(chosen.memory, [chosen.major]) as engine:
        print("| what | pgdb | beside it | ratio | goal |\n| --- | --- | --- | --- | --- |", flush=True)
        if "deploy" in only or "ready" in only:
            with daemon_in(chosen.pgdb, chosen.memory) as daemon:
                daemon.more = settings(f"unix://{engine.socket}", free_port())
                daemon.start()
                if "deploy" in only:
                    bench_deploy(engine, daemon, chosen.major, chosen.runs)
                if "ready" in only:
                    bench_ready(daemon, chosen.major, chosen.runs)
        if "status" in only:
            bench_status(engine, chosen.pgdb, chosen.memory, chosen.major, chosen.count, 100)


if __name__ == "__main__":
    main()

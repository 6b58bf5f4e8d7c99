"""What the benches share: a PostgreSQL client, the daemon, and numbers in words. Standard library only."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime

ENGINE = os.environ.get("PGDB_BENCH_ENGINE", "/usr/lib/postgresql/15/bin")
MAJOR = int(subprocess.run([f"{ENGINE}/postgres", "-V"], capture_output=True, text=True, check=True)
            .stdout.split()[2].split(".")[0])
ROOT = os.geteuid() == 0
RUN_AS = {"user": "postgres", "group": "postgres", "extra_groups": []} if ROOT else {}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- a PostgreSQL client that does a SCRAM login and SELECT 1, the same for both sides -------------------------------

class NotReady(Exception):
    """The server does not take sessions yet."""


def read_message(stream):
    try:
        head = stream.read(5)
    except ConnectionError as error:
        # A container's port is open before its server is.
        raise NotReady from error
    if len(head) < 5:
        raise NotReady
    body = stream.read(struct.unpack("!I", head[1:])[0] - 4)
    if head[:1] == b"E":
        fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
        if fields[b"C"] == "57P03":
            raise NotReady
        raise RuntimeError(fields[b"M"])
    return head[:1], body


class Session:
    """A session of the simple protocol over TCP, after a SCRAM login."""

    def __init__(self, host, port, user, password, database):
        """Without a password the login is begun and not finished."""
        try:
            self.socket = socket.create_connection((host, port), timeout=600)
        except ConnectionError as error:
            raise NotReady from error
        self.stream = self.socket.makefile("rb")
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first, challenge = self.begin(user, database)
            if password is not None:
                self.log_in(password, first, challenge)
        except BaseException:
            self.close()
            raise

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def begin(self, user, database):
        self.send(b"", struct.pack("!I", 196608) + f"user\0{user}\0database\0{database}\0\0".encode())
        kind, body = read_message(self.stream)
        assert kind == b"R" and body[:4] == struct.pack("!I", 10), "the server does not ask for SCRAM"
        first = "n=,r=" + secrets.token_urlsafe(18)
        initial = ("n,," + first).encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(initial)) + initial)
        return first, read_message(self.stream)[1][4:].decode()

    def log_in(self, password, first, challenge):
        parts = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = "c=biws,r=" + parts["r"]
        signature = hmac.digest(hashlib.sha256(client_key).digest(), f"{first},{challenge},{final}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        self.send(b"p", f"{final},p={proof}".encode())
        while read_message(self.stream)[0] != b"Z":
            pass

    def query(self, sql):
        """The first column of every row."""
        self.send(b"Q", sql.encode() + b"\0")
        answers = []
        while True:
            kind, body = read_message(self.stream)
            if kind == b"D":
                length = struct.unpack("!i", body[2:6])[0]
                answers.append(body[6:6 + length].decode() if length >= 0 else None)
            if kind == b"Z":
                return answers

    def close(self):
        self.stream.close()
        self.socket.close()


def verifier(password):
    """What PostgreSQL keeps of a password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    text = lambda data: base64.b64encode(data).decode()
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return f"SCRAM-SHA-256$4096:{text(salt)}${text(stored)}:{text(hmac.digest(salted, b'Server Key', 'sha256'))}"


def select_one(host, port, user, password, database):
    session = Session(host, port, user, password, database)
    try:
        assert session.query("SELECT 1") == ["1"]
        session.send(b"X", b"")
    finally:
        session.close()


def wait_for_select_one(*login):
    while True:
        try:
            return select_one(*login)
        except NotReady:
            time.sleep(0.002)


# --- the daemon --------------------------------------------------------------------------------------------------

class Daemon:
    def __init__(self, pgdb, data_dir):
        self.pgdb, self.data_dir, self.child = pgdb, data_dir, None
        self.more = {}
        self.key = secrets.token_hex(32)
        self.token = secrets.token_hex(32)

    def environment(self):
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("PGDB_", "DB_", "PG"))}
        kept.pop("PORT", None)
        return kept | {
            "PGDB_TOKEN": self.token, "PGDB_MASTER_KEY": self.key, "PGDB_DATA_DIR": self.data_dir,
            "PGDB_LISTEN": f"127.0.0.1:{self.port}", "PGDB_SERVER_URL": f"http://127.0.0.1:{self.port}",
            "PGDB_PORT_RANGE": "21000-25999",
        } | self.more

    def start(self):
        self.port = free_port()
        with open(self.data_dir + ".log", "ab") as log:
            self.child = subprocess.Popen([self.pgdb, "serve"], env=self.environment(), stdout=log, stderr=log)
        for _ in range(3000):
            try:
                if self.ask("GET", "/readiness")[0] == 200:
                    return self
            except OSError:
                pass
            if self.child.poll() is not None:
                with open(self.data_dir + ".log") as log:
                    raise RuntimeError(log.read()[-2000:])
            time.sleep(0.02)
        raise RuntimeError("the daemon was not ready after a minute")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method, path, body=None):
        status, answer = self.ask(method, path, body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500]}")
        return json.loads(answer)

    def end(self):
        """Destroys what is left, and ends the daemon."""
        try:
            for item in self.call("GET", "/v1/status")["items"]:
                if item["name"].startswith("bench-"):
                    self.ask("DELETE", f"/v1/db/{item['name']}")
        except (OSError, RuntimeError, AttributeError, http.client.HTTPException) as error:
            say("clean-up:", error)
        self.stop()


@contextmanager
def daemon_in(pgdb, folder):
    work = tempfile.mkdtemp(prefix="pgdb-bench-", dir=folder)
    os.chmod(work, 0o755)
    daemon = Daemon(pgdb, os.path.join(work, "data"))
    try:
        yield daemon
    finally:
        daemon.end()
        shutil.rmtree(work, ignore_errors=True)


# --- numbers ------------------------------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def spread(values):
    if len(values) < 2:
        return f"{values[0]:.0f}"
    low, high = statistics.quantiles(values, n=4)[::2]
    return f"{median(values):.0f} ({low:.0f}–{high:.0f})"


def when(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


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

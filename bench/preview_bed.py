"""A PostgreSQL server with a template, as an administrator would set it up, and the bare statements that previews are
compared to. Standard library only."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager

from common import ENGINE, ROOT, RUN_AS, NotReady, Session, free_port, say, verifier

OPERATOR, DEV, TEMPLATE = "zane_operator", "medusa_dev", "template_medusa"
TABLES = 150


def engine(major):
    """The binaries of a major; without one, those that the other benches use."""
    if major is None:
        return ENGINE
    return os.path.join(os.environ.get("PGDB_ENGINES_DIR", "/usr/lib/postgresql"), str(major), "bin")


class Server:
    """A server of its own, with SCRAM for everybody, and the settings that PostgreSQL comes with but for those given."""

    def __init__(self, binaries, work, settings):
        self.binaries, self.work, self.settings = binaries, work, settings
        self.data = os.path.join(work, "pg")
        self.password = secrets.token_urlsafe(16)
        version = subprocess.run([f"{binaries}/postgres", "-V"], capture_output=True, text=True, check=True).stdout
        self.version = version.split()[2]
        self.major = int(self.version.split(".")[0])
        self.child = None

    def make(self):
        file = os.path.join(self.work, "password")
        with open(file, "w") as out:
            out.write(self.password + "\n")
        os.chmod(file, 0o644)
        subprocess.run([f"{self.binaries}/initdb", "-D", self.data, "-A", "scram-sha-256", "-U", "postgres",
                        "--pwfile", file, "-E", "UTF8", "--locale", "C"], check=True, stdout=subprocess.DEVNULL, **RUN_AS)

    def start(self, *more):
        self.port = free_port()
        options = ["-c", "max_connections=250", "-c", f"unix_socket_directories={self.work}",
                   "-c", "listen_addresses=127.0.0.1", "-p", str(self.port)]
        for setting in (*self.settings, *more):
            options += ["-c", setting]
        with open(os.path.join(self.work, "pg.log"), "ab") as log:
            self.child = subprocess.Popen([f"{self.binaries}/postgres", "-D", self.data, *options], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, **RUN_AS)
        while True:
            try:
                self.admin().close()
                return self
            except NotReady:
                if self.child.poll() is not None:
                    with open(os.path.join(self.work, "pg.log")) as log:
                        raise RuntimeError(log.read()[-2000:]) from None

    def stop(self, how=signal.SIGINT):
        if self.child and self.child.poll() is None:
            self.child.send_signal(how)
            self.child.wait(300)
        self.child = None

    def admin(self, database="postgres"):
        return Session("127.0.0.1", self.port, "postgres", self.password, database)

    def operator(self, database="postgres"):
        return Session("127.0.0.1", self.port, OPERATOR, self.password, database)

    def environment(self):
        """For psql and for the daemon."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": OPERATOR, "PGPASSWORD": self.password,
                "PGDATABASE": "postgres"}

    def psql(self, sql):
        """One process of the engine's own psql, as the operator."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.Popen([f"{self.binaries}/psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql]
                                if isinstance(sql, str) else
                                [f"{self.binaries}/psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-f", sql[0]],
                                env=kept | self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def script(self, name, sql):
        """What [`psql`] runs as a file."""
        path = os.path.join(self.work, name)
        with open(path, "w") as out:
            out.write(sql)
        return (path,)

    def prepare_roles(self):
        session = self.admin()
        quoted = self.password.replace("'", "''")
        session.query(f"CREATE ROLE {OPERATOR} LOGIN CREATEDB CREATEROLE PASSWORD '{quoted}'")
        session.query(f"GRANT pg_signal_backend TO {OPERATOR}")
        session.query(f"CREATE ROLE {DEV} LOGIN PASSWORD 'dev'")
        session.query(f"CREATE DATABASE {TEMPLATE} OWNER {OPERATOR}")
        session.close()


def fill_small(session, rows):
    """150 tables with a key, an index and `rows` rows of about 330 bytes each, in two schemas, and some views."""
    session.query("CREATE SCHEMA shop")
    for n in range(TABLES):
        table = f"{'shop' if n % 2 else 'public'}.things_{n}"
        session.query(
            f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind int NOT NULL, note text);"
            f"INSERT INTO {table} (kind, note) SELECT n % 97, repeat(md5(n::text), 9) FROM generate_series(1, {rows}) n;"
            f"CREATE INDEX ON {table} (kind)")
        if n % 15 == 0:
            session.query(f"CREATE VIEW shop.latest_{n} AS SELECT * FROM {table} ORDER BY id DESC LIMIT 10")
    session.query("VACUUM (FREEZE, ANALYZE)")


def fill_wide(session, gigabytes):
    """20 tables of rows that take a quarter of a page each, which is quick to write."""
    pages = int(gigabytes * (1 << 30) / 8192)
    for n in range(20):
        session.query(f"CREATE TABLE wide_{n} AS SELECT n AS id, repeat(md5(n::text), 61) AS note "
                      f"FROM generate_series(1, 0) n; ALTER TABLE wide_{n} ALTER note SET STORAGE PLAIN")
        # In the transaction that makes the table, so that with wal_level = minimal nothing is logged.
        session.query(f"BEGIN; TRUNCATE wide_{n}; INSERT INTO wide_{n} SELECT n, repeat('0123456789abcdef', 122) "
                      f"FROM generate_series(1, {pages * 4 // 20}) n; COMMIT")
        say(f"  wide_{n}")


def workplace(folder, prefix):
    """A new folder that PostgreSQL's account may write into."""
    work = tempfile.mkdtemp(prefix=prefix, dir=folder)
    os.chmod(work, 0o755)
    if ROOT:
        account = pwd.getpwnam("postgres")
        os.chown(work, account.pw_uid, account.pw_gid)
    return work


@contextmanager
def bed(folder, fill, major=None, settings=(), loading=(), log=None):
    """A server in a folder, with a template that `fill` has filled. `log` is the file that its log is added to."""
    work = workplace(folder, "pgdb-previews-")
    server = Server(engine(major), work, settings)
    try:
        server.make()
        server.start(*loading)
        server.prepare_roles()
        session = server.operator(TEMPLATE)
        fill(session)
        size = int(session.query("SELECT pg_database_size(current_database())")[0])
        session.close()
        if loading:
            server.stop()
            server.start()
        admin = server.admin()
        admin.query("CHECKPOINT")
        admin.close()
        say(f"PostgreSQL {server.version}, template of {size / 1e6:.0f} MB in {work}")
        server.template_bytes = size
        yield server
    finally:
        # At once: the checkpoint of a shutdown would write what is thrown away.
        server.stop(signal.SIGQUIT)
        if log:
            with open(os.path.join(work, "pg.log")) as said, open(log, "a") as out:
                shutil.copyfileobj(said, out)
        shutil.rmtree(work, ignore_errors=True)


class Bare:
    """The statements that a preview comes to, run by psql. The template has its holder already."""

    def __init__(self, server, strategy):
        self.server = server
        # Sharing blocks is how a server that is told so makes its copies of files.
        word = "file_copy" if strategy == "clone" else strategy
        self.with_strategy = f" STRATEGY {word}" if server.major >= 15 else ""
        session = server.admin()
        # The template is closed; its schemas are those of any clone, so a clone is asked.
        session.query(f"CREATE DATABASE bare_look TEMPLATE {TEMPLATE}{self.with_strategy}")
        look = server.admin("bare_look")
        self.schemas = look.query("SELECT quote_ident(nspname) FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'")
        look.close()
        session.query("DROP DATABASE bare_look WITH (FORCE)")
        session.close()

    def make(self, name):
        db, role = f"bare_{name}", f"bare_app_{name}"
        with_rights = " WITH INHERIT TRUE, SET TRUE" if self.server.major >= 16 else ""
        schemas, holder = ", ".join(self.schemas), f"{TEMPLATE}_owner"
        return "\n".join([
            f"CREATE ROLE {role} LOGIN PASSWORD '{verifier(role)}';",
            f"GRANT {role} TO CURRENT_USER{with_rights};",
            f"CREATE DATABASE {db} TEMPLATE {TEMPLATE} OWNER {OPERATOR}{self.with_strategy};",
            f"\\connect {db}",
            "BEGIN;",
            f"REVOKE CONNECT, TEMPORARY ON DATABASE {db} FROM PUBLIC;",
            f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {db} TO {role};",
            f"GRANT CONNECT, TEMPORARY ON DATABASE {db} TO {DEV};",
            *[f"ALTER SCHEMA {schema} OWNER TO {role};" for schema in self.schemas],
            f"REASSIGN OWNED BY {holder} TO {role};",
            f"SET LOCAL ROLE {role};",
            f"GRANT USAGE ON SCHEMA {schemas} TO {DEV};",
            f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {schemas} TO {DEV};",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schemas} TO {DEV};",
            f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schemas} TO {DEV};",
            f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {DEV};",
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO {DEV};",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO {DEV};",
            f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO {DEV};",
            "COMMIT;\n",
        ])

    @staticmethod
    def drop(name):
        return f"DROP DATABASE bare_{name} WITH (FORCE);\nDROP ROLE bare_app_{name};\n"

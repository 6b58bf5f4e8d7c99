"""The migration runners that are compared: how each is installed, what its files look like, how it is run. Standard
library only; what is installed comes from the package registries and goes into the bench's own folder."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field

from common import say

SQLX, REFINERY, DBMATE, NODE_PG_MIGRATE, PG = "0.9.0", "0.10.0", "2.36.0", "9.0.0", "8"


def as_is(sql):
    return sql


@dataclass
class Tool:
    """One runner. `name_of` and `text_of` say what file number n is called and what is around its SQL; `argv` is what
    runs the files of a folder, `ledger` the table where it writes down what ran."""

    label: str
    argv: list
    ledger: str
    name_of: object
    text_of: object = as_is
    more: dict = field(default_factory=dict)

    def write(self, folder, statements):
        """Writes the files, and gives the folder that holds them."""
        where = os.path.join(folder, self.label.replace(" ", "-"), self.more.get("subfolder", ""))
        os.makedirs(where)
        for number, sql in enumerate(statements, 1):
            with open(os.path.join(where, self.name_of(number)), "w") as out:
                out.write(self.text_of(sql))
        return where if "subfolder" not in self.more else os.path.dirname(where)

    def start(self, folder, url):
        """One process of it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PGDB_", "PG", "DATABASE"))}
        environment = kept | {"DATABASE_URL": url, "MIGRATIONS_DIR": folder}
        argv = [folder if part == "FOLDER" else part for part in self.argv]
        return subprocess.Popen(argv, env=environment, cwd=os.path.dirname(folder), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def run(self, folder, url):
        """One process of it, to its end."""
        process = self.start(folder, url)
        said = process.communicate()[1]
        if process.returncode != 0:
            raise RuntimeError(f"{self.label}: {said.decode(errors='replace')[-2000:]}")


def ours(pgdb):
    return Tool("pgdb", [pgdb, "migrate", "run"], "pgdb.migrations", lambda n: f"{n:05}_step.sql",
                more={"subfolder": "app"})


def floors(program):
    """The bare program, as one writes it, and with one message a file."""
    return [Tool(label, [program, command, "FOLDER"], "floor_migrations", lambda n: f"{n:05}_step.sql")
            for label, command in [("floor", "migrate"), ("floor in one message", "migrate-in-one")]]


def peers(folder, without):
    """Installs what is not there yet, but for those `without`."""
    cargo, node = os.path.join(folder, "cargo"), os.path.join(folder, "npm")
    if "sqlx-cli" not in without:
        install_cargo(cargo, "sqlx-cli", SQLX, "sqlx", "postgres,rustls")
    if "refinery" not in without:
        install_cargo(cargo, "refinery_cli", REFINERY, "refinery", "postgresql")
    if not {"dbmate", "node-pg-migrate"} <= set(without):
        install_npm(node, [f"dbmate@{DBMATE}", f"node-pg-migrate@{NODE_PG_MIGRATE}", f"pg@{PG}"])
    in_cargo, in_node = os.path.join(cargo, "bin"), os.path.join(node, "node_modules", ".bin")
    # npm's `dbmate` is a script that starts Node and then the program; the program alone is its usual way elsewhere.
    dbmate = shutil.which("dbmate", path=os.path.join(node, "node_modules", "@dbmate", "linux-x64", "bin"))
    everybody = [
        Tool("sqlx-cli", [f"{in_cargo}/sqlx", "migrate", "run", "--no-dotenv", "--source", "FOLDER"], "_sqlx_migrations",
             lambda n: f"{n:05}_step.sql"),
        Tool("refinery", [f"{in_cargo}/refinery", "migrate", "-e", "DATABASE_URL", "-p", "FOLDER"],
             "refinery_schema_history", lambda n: f"V{n}__step.sql"),
        Tool("dbmate", [dbmate or f"{in_node}/dbmate", "--migrations-dir", "FOLDER", "--no-dump-schema", "migrate"],
             "schema_migrations", lambda n: f"{n:05}_step.sql",
             lambda sql: f"-- migrate:up\n{sql}\n-- migrate:down\n"),
        Tool("node-pg-migrate", [f"{in_node}/node-pg-migrate", "up", "--no-verbose", "--migrations-dir", "FOLDER"],
             "pgmigrations", lambda n: f"{n:05}_step.sql", lambda sql: f"-- Up Migration\n{sql}\n-- Down Migration\n"),
    ]
    return [tool for tool in everybody if tool.label not in without]


def install_cargo(root, package, version, program, features):
    if os.path.exists(os.path.join(root, "bin", program)):
        return
    say(f"building {package} {version}")
    subprocess.run(["cargo", "install", "--quiet", "--locked", "--root", root, "--version", version,
                    "--no-default-features", "--features", features, package], check=True)


def install_npm(folder, packages):
    wanted = "\n".join(packages)
    mark = os.path.join(folder, "installed")
    if os.path.exists(mark) and open(mark).read() == wanted:
        return
    say("installing " + ", ".join(packages))
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *packages],
                   check=True, stdout=subprocess.DEVNULL)
    with open(mark, "w") as out:
        out.write(wanted)

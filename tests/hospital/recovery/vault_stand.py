"""A real PostgreSQL with the record's tables, and the backup vault beside it as its own process."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from stacks.hospital import postgres
from stacks.hospital.ehr import schema as record_schema
from tests.hospital.ehr.cluster import Cluster, Server
from tests.hospital.programs import Program, until

NAMES = ("ehr-db-a", "ehr-db-b")
SPEED = "3600"


class Stand:
    """`primary` is ehr-db-a, a standby (if added) ehr-db-b; `vault` pulls from both."""

    def __init__(
        self, folder: Path, template: Path, bug: str = "", standby: bool = False,
        speed: str = SPEED,
    ) -> None:  # fmt: skip
        self.folder = folder
        (folder / "db").mkdir()
        self.cluster = Cluster(folder / "db", template)
        self.servers: list[Server] = [self.cluster.primary]
        sql = Path(record_schema.__file__).with_name("schema.sql").read_text()
        with self.connect() as connection:
            connection.execute(sql.encode())
        if standby:
            self.servers.append(self.cluster.add_standby())
        self.vault = Program("recovery.backup", folder / "vault", {
            "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "HOSPITAL_SPEED": speed,
            "HOSPITAL_BUG": bug,
            **{
                f"LINK_{name.upper().replace('-', '_')}_POSTGRES": f"127.0.0.1:{server.port}"
                for name, server in zip(NAMES, self.servers, strict=False)
            },
        })  # fmt: skip

    def __enter__(self) -> Stand:
        try:
            self.vault.start(ready=False)
            until("the first base backup", 60, lambda: self.vault.health()[0] == 200)
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def down(self) -> None:
        self.vault.__exit__(None, None, None)
        self.cluster.stop()

    # -- the record -------------------------------------------------------------------------------

    def connect(self, server: int = 0) -> psycopg.Connection[Any]:
        address = ("127.0.0.1", self.servers[server].port)
        return psycopg.connect(postgres.dsn(address), autocommit=True)

    def write(self, number: int, server: int = 0) -> None:
        """One observation, committed."""
        mrn, key = f"M{number % 10}", f"OBS-{number}"
        body = {
            "resourceType": "Observation", "status": "final",
            "identifier": [{"system": "urn:hospital:placer", "value": key}],
            "subject": {"reference": f"Patient/{mrn}"}, "code": {"text": "pulse"},
            "valueQuantity": {"value": 60 + number % 40},
        }  # fmt: skip
        with self.connect(server) as connection:
            connection.execute(
                "INSERT INTO resource (type, key, patient, pending, body)"
                " VALUES ('Observation', %s, %s, false, %s)", (key, mrn, json.dumps(body)),
            )  # fmt: skip

    def now(self, server: int = 0) -> float:
        """The database's own clock."""
        with self.connect(server) as connection:
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
        assert row is not None
        return float(row[0])

    # -- the vault --------------------------------------------------------------------------------

    def backups(self) -> dict[str, Any]:
        found: dict[str, Any] = self.vault.http.get("/backups").json()
        return found

    def archived(self, at: float, within_s: float = 20) -> None:
        """Wait until what was committed by `at` is in the vault."""
        until("the log is archived", within_s, lambda: self.backups()["log"]["archived_at"] >= at)

    def marked(self, at: float) -> None:
        """Wait until a marker was taken after `at`."""
        folder = self.vault.folder / "markers"
        until(
            "a marker of the record", 20,
            lambda: any(float(path.stem) > at for path in folder.glob("*.json")),
        )  # fmt: skip

    def drill(self, within_s: float = 60, **asked: float) -> dict[str, Any]:
        answer = self.vault.http.post("/drills", json=asked)
        assert answer.status_code == 202, answer.text
        path = f"/drills/{answer.json()['drill']}"

        def done() -> dict[str, Any] | None:
            found: dict[str, Any] = self.vault.http.get(path).json()
            return found if found["done"] else None

        return until("the drill's report", within_s, done)

    def restored(self) -> set[str]:
        """Keys of what the last drill restored."""
        lines = self.vault.http.get("/export").text.splitlines()
        return {json.loads(line)["key"] for line in lines}

    def check(self, within_s: float = 60) -> dict[str, Any]:
        assert self.vault.http.post("/integrity").status_code == 202

        def done() -> dict[str, Any] | None:
            found: dict[str, Any] = self.vault.http.get("/integrity").json()
            return None if found["running"] else found

        return until("the check's finding", within_s, done)

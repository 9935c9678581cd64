"""``delineate check`` says what is wrong with a database and a folder that machines share."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from node.adapters.database import open_server
from node.adapters.ledger import Ledger
from node.adapters.shared_folder import FileSystem, mark_folder
from node.checkup import Finding, check
from node.config import load
from node.domain.errors import NodeError, SetupError
from node.machine_checkup import check_clock, check_folder
from node.machines import refuse_other_folder
from tests.fakes import free_port
from tests.postgres import Server

LOCAL = FileSystem(kind="ext4", options=())
SLOW_NFS = FileSystem(kind="nfs4", options=("rw", "vers=4.2"))


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def database(url: str) -> Iterator[sa.Engine]:
    opened = open_server(url)
    yield opened
    opened.dispose()


def findings(folder: Path, **node: Any) -> dict[str, Finding]:
    """Check a configuration, as far as to the first that does not concern the machines."""
    configuration = folder / "node.toml"
    keys = {"data_dir": str(folder / "var"), "port": free_port(), **node}
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in keys.items()]
    configuration.write_text("[node]\n" + "\n".join(lines), encoding="utf-8")
    found: dict[str, Finding] = {}
    for finding in check(load(configuration)):
        if finding.subject == "port":
            break
        found[finding.subject] = finding
    return found


def test_a_server_that_may_lose_what_it_kept_is_named_with_its_setting(tmp_path: Path, url: str) -> None:
    found = findings(tmp_path, database=url)  # the tests' own server: fast and careless

    assert [name for name, one in found.items() if not one.holds] == ["database"]
    assert found["database"].said.endswith("when its power fails: fsync is off.")


def test_server_clock_folder_and_name_are_told_without_user_and_password(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.machine_checkup._DURABLE", ())

    found = findings(tmp_path, database=url, machine="ct-1")

    assert all(one.holds for one in found.values()), found
    assert found["database"].said.startswith("PostgreSQL ")
    assert "delineate@" not in found["database"].said
    assert "of the database server's" in found["clock"].said
    assert "no machine uses it yet" in found["shared folder"].said
    assert found["machine name"].said == "ct-1; nothing of that name is at work"


def test_a_server_that_does_not_answer_is_named_with_what_to_look_at(tmp_path: Path) -> None:
    port = free_port()

    found = findings(tmp_path, database=f"postgresql://delineate@127.0.0.1:{port}/delineate")["database"]

    assert not found.holds
    assert f"127.0.0.1:{port}/delineate cannot be used" in found.said
    assert "PGPASSFILE" in found.what_to_do


def test_a_password_that_is_wrong_is_told_and_not_shown(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("PGPASSWORD", "sesame")

    found = findings(tmp_path, database=url)["database"]

    assert "password authentication failed" in found.said
    assert "sesame" not in f"{found.said} {found.what_to_do}"


def test_a_password_in_the_configuration_is_refused_and_not_shown(tmp_path: Path) -> None:
    found = findings(tmp_path, database="postgresql://delineate:sesame@127.0.0.1/delineate")["database"]

    assert not found.holds
    assert "holds a password" in found.said
    assert "sesame" not in f"{found.said} {found.what_to_do}"


@pytest.mark.parametrize(("off_s", "said"), [(5.0, "ahead of"), (-5.0, "behind")])
def test_a_clock_that_goes_wrong_is_told(database: sa.Engine, off_s: float, said: str) -> None:
    with pytest.raises(NodeError, match=f"{said} the database server's"):
        check_clock(database, lambda: time.time() + off_s)


def test_the_first_machine_s_folder_is_everybody_s(open_node_database: Callable[[], sa.Engine], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    ledger = Ledger(open_node_database())

    refuse_other_folder(ledger, ours)
    refuse_other_folder(ledger, ours)

    with pytest.raises(SetupError, match="is not the one that the other machines of this node use"):
        refuse_other_folder(ledger, theirs)
    assert "no machine uses it yet" in check_folder(ledger, ours, LOCAL)
    (ours / "node.id").unlink()
    with pytest.raises(SetupError, match=r"node\.id is missing"):
        check_folder(ledger, ours, LOCAL)


def test_a_folder_whose_changes_are_seen_late_is_refused(database: sa.Engine, tmp_path: Path) -> None:
    ledger = Ledger(database)
    ledger.bind_folder(mark_folder(tmp_path))

    with pytest.raises(SetupError, match="remembers folders for up to 60 s") as raised:
        check_folder(ledger, tmp_path, SLOW_NFS)

    assert "actimeo=1" in raised.value.remedy


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.checkup.file_system_of", lambda _: SLOW_NFS)

    found = findings(tmp_path)["database"]

    assert not found.holds
    assert "locks of SQLite cannot be trusted on a network" in found.said

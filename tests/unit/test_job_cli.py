"""``delineate jobs`` and its kin: what they print, and that a person who mistypes gets a sentence."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from node.cli import app
from node.domain.errors import NodeError, SetupError
from node.domain.jobs import DeliveryState, JobState, SeriesState
from tests.unit.test_ledger import FACTS, JOB, SERIES
from tests.unit.test_steer import World, prepared

__all__ = ["prepared"]

KEY: str = JOB["job"]
ID = "3f947854"


class Desk:
    """A person at the command line of a node with one job."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.config = folder / "node.toml"
        self.config.write_text(f'[node]\ndata_dir = "{folder}"\n', encoding="utf-8")
        self.world = World(Path(shutil.copy(database, folder / "delineate.sqlite")))

    def says(self, *arguments: str) -> str:
        """Run a command; gives what it prints."""
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def json(self, *arguments: str) -> Any:
        """Run a command; gives its JSON."""
        return json.loads(self.says(*arguments, "--json"))


@pytest.fixture
def desk(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    made = Desk(tmp_path, prepared)
    yield made
    made.world.tasks.close()
    made.world.database.dispose()


def test_a_job_is_listed_with_its_reason_and_what_to_do(desk: Desk) -> None:
    desk.world.move(JobState.CONTOURING)
    desk.world.ledger.move_job(KEY, JobState.FAILED, reason="Not done within 5 s.")

    assert desk.says("jobs").splitlines() == [
        f"{ID}  failed  m, run 1, since 1970-01-01 00:16:40",
        "          series 1.2.3",
        "          Not done within 5 s.",
        "          what to do: mend what the reason names, then `delineate retry`; else report it, with the log",
    ]


def test_deliveries_are_listed_with_their_job(desk: Desk) -> None:
    desk.world.finish(DeliveryState.WAITING)

    lines = desk.says("jobs", "--unfinished").splitlines()

    assert lines[2:] == ["          to folder: delivered", "          to tps: waiting, try 1 at 01:23:20; no answer"]
    (row,) = desk.json("jobs")
    assert (row["id"], row["state"], row["priority"]) == (ID, "contoured", "ROUTINE")
    assert [one["destination"] for one in row["deliveries"]] == ["folder", "tps"]


def test_what_is_done_and_delivered_is_not_unfinished(desk: Desk) -> None:
    desk.world.finish(DeliveryState.DELIVERED)

    assert desk.says("jobs", "--unfinished") == "No job is unfinished.\n"
    assert desk.json("jobs", "--unfinished") == []
    assert desk.says("jobs").startswith(ID)


def test_each_command_says_what_it_did(desk: Desk) -> None:
    assert desk.says("run-now", ID[:4]) == f"{ID}: goes first\n"
    assert desk.says("jobs").startswith(f"{ID}  queued STAT")
    assert desk.says("cancel", ID) == f"{ID}: cancelled\n"
    assert desk.says("retry", SERIES) == f"{ID}: tried again\n"
    assert desk.json("rerun", ID, "--model", "other") == [
        {"job": "1.2.3/ffff/other/1", "did": "run 1 of other queued", "destination": ""}
    ]
    desk.world.finish(DeliveryState.REFUSED)
    assert desk.says("retry", ID, "--destination", "tps") == f"{ID}: sent again to tps\n"
    assert desk.says("resend", ID, "--destination", "folder") == f"{ID}: sent again to folder\n"


def test_a_growing_series_is_judged_when_a_person_says_so(desk: Desk) -> None:
    desk.world.ledger.note_series("1.5", {**FACTS, "state": SeriesState.RECEIVING})

    assert desk.says("run-now", "1.5") == "series 1.5 is judged at once\n"
    assert desk.world.ledger.series_asked_for() == {"1.5"}


@pytest.mark.parametrize("command", ["jobs", "retry", "resend", "cancel", "run-now", "rerun"])
def test_an_unknown_job_is_said_in_a_sentence(desk: Desk, command: str) -> None:
    with pytest.raises(NodeError, match="There is no job 'zzz'"):
        desk.says(command, "zzz")


@pytest.mark.parametrize("command", ["jobs", "retry"])
def test_without_a_node_a_person_is_told_to_start_one(tmp_path: Path, command: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "none"}"\n', encoding="utf-8")

    with pytest.raises(SetupError, match="no node's database"):
        CliRunner().invoke(app, [command, "x", "--config", str(config)], catch_exceptions=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["jobs", "retry", "resend", "cancel", "run-now", "rerun"])
def test_every_command_teaches_by_example(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])

    assert done.exit_code == 0
    assert f"delineate {command} " in done.output
    assert "Example" in done.output

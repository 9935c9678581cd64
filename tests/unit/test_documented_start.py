"""The units and the compose file that show how a node is started: they name what there is, and others can read them."""

import configparser
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from node.cli import app
from node.service import ROLES

UNITS = sorted(Path("conf/systemd").glob("*.service"))


def commands() -> dict[str, list[str]]:
    """Give every command line that the files start a node by."""
    found = {}
    for unit in UNITS:
        sections = configparser.ConfigParser(interpolation=None, strict=False)
        sections.optionxform = str  # type: ignore[assignment]
        sections.read(unit, encoding="utf-8")
        found[unit.name] = sections["Service"]["ExecStart"].split()
    for name, service in compose()["services"].items():
        if "command" in service:
            found[f"compose {name}"] = service["command"].split()
    return found


def compose() -> dict[str, Any]:
    text = Path("conf/compose.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_every_command_is_one_that_delineate_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    started: set[tuple[str, ...]] = set()

    def serve(*_: object, roles: Sequence[str], supervised: bool) -> int:
        started.add(tuple(roles))
        return 0

    monkeypatch.setattr("node.service.serve", serve)

    for name, command in commands().items():
        for role in ROLES if "%i" in command else ("",):
            arguments = [role if part == "%i" else part for part in command[1:]]
            config = arguments.index("--config") + 1
            assert arguments[config] == "/etc/delineate/node.toml"
            arguments[config] = "conf/node.toml"
            outcome = CliRunner().invoke(app, arguments)
            assert outcome.exit_code == 0, (name, outcome.output)

    assert {ROLES, *((role,) for role in ROLES)} == started


def test_a_role_that_there_is_not_is_refused() -> None:
    outcome = CliRunner().invoke(app, ["serve", "--roles", "recever"])

    assert outcome.exit_code == 2
    assert "'recever' is none of receiver" in outcome.output


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("not installed: systemd-analyze (Debian's package systemd)")
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/delineate/bin/delineate", "/bin/true")
        text = text.replace("User=delineate", "User=root").replace("Group=delineate", "Group=root")
        copy = tmp_path / unit.name.replace("@", "@receiver")
        copy.write_text(text, encoding="utf-8")

        checked = subprocess.run(
            [program, "verify", "--man=no", str(copy)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        )

        assert (checked.returncode, copy.name in checked.stderr) == (0, False), checked.stderr


def test_the_compose_file_gives_every_part_the_same_folder_and_the_password_file() -> None:
    parts = [one for one in compose()["services"].values() if "command" in one]

    assert len(parts) == 4
    for part in parts:
        assert "delineate:/srv/delineate" in part["volumes"]
        assert part["environment"] == {"PGPASSFILE": "/run/secrets/pgpass"}

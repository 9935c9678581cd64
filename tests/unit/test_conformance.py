"""The conformance statement says what the code does."""

import runpy
from pathlib import Path

from node.adapters import storage_scp
from node.stages import receive

ROOT = Path(__file__).parent.parent.parent


def test_the_tables_of_the_conformance_statement_are_those_of_the_code() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "conformance"))
    document = (ROOT / "CONFORMANCE.md").read_text(encoding="utf-8")

    assert script["filled"](document) == document, "run .venv/bin/python scripts/conformance --write"


def test_the_adapter_and_the_stage_mean_the_same_status_by_a_fault_of_ours() -> None:
    assert storage_scp.UNABLE_TO_PROCESS == receive.UNABLE_TO_PROCESS

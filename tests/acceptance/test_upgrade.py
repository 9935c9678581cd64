"""An upgrade with work in flight: what an earlier version had begun when it was killed, this one finishes.

The file beside this is the whole database, ours and the engine's, of the version with tables 1, as a ``kill -9`` of all
its processes left it: of three series one was being contoured, one waited for that, and the result of one waited for
its destination, which was down.
"""

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.adapters.tables import SCHEMA_VERSION
from tests.acceptance.running import RunningNode
from tests.acceptance.test_kill import phantom
from tests.fakes import RT_STRUCTURE_SET, SEGMENTATION, FakeDestination

LEFT = Path(__file__).parent / "upgrade" / "killed_at_work_tables_1.sql"
IN_FLIGHT = ("upgrade-delivered", "upgrade-contoured", "upgrade-queued")
CLASSES = {"rtstruct": RT_STRUCTURE_SET, "seg": SEGMENTATION}


def restore(data_dir: Path) -> None:
    """Put database, images and results where that version left them; times are as if it was killed just now."""
    data_dir.mkdir()
    with closing(sqlite3.connect(data_dir / "delineate.sqlite")) as database:
        database.executescript(LEFT.read_text(encoding="utf-8"))
        for name in IN_FLIGHT:
            restore_images(database, data_dir, phantom(name, slices=12))
        restore_results(database, data_dir)
        now = time.time()
        for table in ("job", "delivery"):
            database.execute(f"UPDATE {table} SET created_at = :now, updated_at = :now", {"now": now})
        changed = database.execute("UPDATE workflow_status SET delay_until_epoch_ms = 0 WHERE status = 'DELAYED'")
        assert changed.rowcount == 1
        database.commit()


def restore_images(database: sqlite3.Connection, data_dir: Path, images: list[Dataset]) -> None:
    series = str(images[0].SeriesInstanceUID)
    ((body,),) = database.execute("SELECT body FROM manifest WHERE series_uid = ?", [series]).fetchall()
    names = json.loads(body)["files"]
    folder = data_dir / "inbox" / series
    folder.mkdir(parents=True)
    for image in images:
        image.save_as(folder / names[str(image.SOPInstanceUID)], enforce_file_format=True)


def restore_results(database: sqlite3.Connection, data_dir: Path) -> None:
    for uid, kind, path in database.execute("SELECT sop_instance_uid, kind, path FROM output").fetchall():
        result = Dataset()
        result.SOPClassUID, result.SOPInstanceUID = CLASSES[kind], uid
        result.file_meta = FileMetaDataset()
        result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = data_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        result.save_as(file, enforce_file_format=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        database.execute("UPDATE output SET sha256 = ? WHERE sop_instance_uid = ?", [digest, uid])


def test_what_the_former_version_had_begun_is_finished_once(tmp_path: Path) -> None:
    restore(tmp_path / "var")

    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        status = node.wait_until_delivered(3)
        time.sleep(1.0)

        received = sorted(str(one.SOPInstanceUID) for one in tps.received)
    assert sorted(job["series_uid"] for job in status["jobs"]) == sorted(
        str(phantom(name, slices=1)[0].SeriesInstanceUID) for name in IN_FLIGHT
    )
    assert {job["state"] for job in status["jobs"]} == {"contoured"}
    assert received == sorted(one["sop_instance_uid"] for job in status["jobs"] for one in job["outputs"])
    with closing(sqlite3.connect(tmp_path / "var" / "delineate.sqlite")) as database:
        assert database.execute("SELECT version FROM schema").fetchall() == [(SCHEMA_VERSION,)]

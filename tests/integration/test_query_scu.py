"""Asking archives by C-FIND how many instances they have: DCMTK's, Orthanc, and one that behaves as told."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from node.adapters.query_scu import STUDY_ROOT_FIND_CLASS, count_instances
from node.adapters.storage_scu import echo, store
from node.domain.delivery import PeerAddress
from node.domain.errors import PeerError
from tests.acceptance.test_peers import orthanc, require
from tests.builders import ct_series, grid, save_series
from tests.fakes import free_port

Answers = Sequence[tuple[int, Dataset | None]]


def answer(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


class FakeArchive:
    """A Query SCP that answers as told, by level, and remembers what it was asked."""

    def __init__(self, answers: dict[str, Answers], *, delay_s: float = 0.0, finds: bool = True) -> None:
        self.asked: list[Dataset] = []
        self.aborts = False
        self._answers = answers
        self._delay_s = delay_s
        self._entity = AE(ae_title="PACS")
        self._entity.add_supported_context(STUDY_ROOT_FIND_CLASS if finds else "1.2.840.10008.1.1")
        self.address = PeerAddress(name="PACS", ae_title="PACS", host="127.0.0.1", port=free_port())

    def __enter__(self) -> "FakeArchive":
        handlers = [(evt.EVT_C_FIND, self._on_find)]
        address = (self.address.host, self.address.port)
        self._entity.start_server(address, block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier)
        if self.aborts:
            event.assoc.abort()
        time.sleep(self._delay_s)
        yield from self._answers.get(event.identifier.QueryRetrieveLevel, [])


def ask(archive: PeerAddress, *, timeout_s: float = 5.0, series_uid: str = "1.2.3") -> int:
    return count_instances(archive, "1.2", series_uid, calling_ae_title="DELINEATE", timeout_s=timeout_s)


def test_the_number_that_the_archive_gives_is_taken() -> None:
    with FakeArchive(
        {"SERIES": [(0xFF00, answer(SeriesInstanceUID="1.2.3", NumberOfSeriesRelatedInstances=60))]}
    ) as pacs:
        count = ask(pacs.address)

    assert count == 60
    (asked,) = pacs.asked
    assert (asked.QueryRetrieveLevel, asked.StudyInstanceUID, asked.SeriesInstanceUID) == ("SERIES", "1.2", "1.2.3")
    assert set(asked.dir()) == {
        "QueryRetrieveLevel",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "NumberOfSeriesRelatedInstances",
    }


@pytest.mark.parametrize("said", [{}, {"NumberOfSeriesRelatedInstances": None}])
def test_of_an_archive_that_gives_no_number_the_images_are_counted(said: dict[str, Any]) -> None:
    images = [(0xFF00, answer(SOPInstanceUID=f"1.2.3.{number}")) for number in range(7)]

    with FakeArchive({"SERIES": [(0xFF00, answer(SeriesInstanceUID="1.2.3", **said))], "IMAGE": images}) as pacs:
        assert ask(pacs.address) == 7


def test_what_an_archive_says_of_other_series_is_not_taken() -> None:
    others = [
        (0xFF00, answer(SeriesInstanceUID=uid, NumberOfSeriesRelatedInstances=count))
        for uid, count in (("1.2.9", 500), ("1.2.3", 60))
    ]

    with FakeArchive({"SERIES": others}) as pacs:
        assert ask(pacs.address) == 60


def test_an_archive_that_does_not_know_the_series_has_none_of_it() -> None:
    with FakeArchive({}) as pacs:
        assert ask(pacs.address) == 0


def test_a_failure_is_said_with_its_status() -> None:
    with FakeArchive({"SERIES": [(0xA700, None)]}) as pacs, pytest.raises(PeerError, match="status 0xA700"):
        ask(pacs.address)


def test_a_silent_archive_is_given_up() -> None:
    with FakeArchive({}, delay_s=1.5) as pacs, pytest.raises(PeerError, match=r"did not answer within 0\.5 s"):
        ask(pacs.address, timeout_s=0.5)


def test_an_archive_that_aborts_is_said_to() -> None:
    with FakeArchive({}) as pacs:
        pacs.aborts = True
        with pytest.raises(PeerError, match="aborted the association instead of answering"):
            ask(pacs.address)


def test_an_archive_that_takes_no_query_is_said_to_take_none() -> None:
    with FakeArchive({}, finds=False) as pacs, pytest.raises(PeerError, match="takes no C-FIND"):
        ask(pacs.address)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_archive_that_cannot_be_reached_is_an_error_and_no_number(host: str) -> None:
    with pytest.raises(PeerError):
        ask(PeerAddress(name="PACS", ae_title="PACS", host=host, port=free_port()))


# Real archives


@pytest.mark.peers
def test_orthanc_gives_the_number(tmp_path: Path) -> None:
    require("Orthanc")
    datasets = ct_series(grid(slices=5))
    files = save_series(datasets, tmp_path / "ct")

    with orthanc(tmp_path) as (port, _):
        address = PeerAddress(name="PACS", ae_title="TPS", host="127.0.0.1", port=port)
        store(address, files, calling_ae_title="CT1")
        count = count_of(address, datasets[0])

    assert count == 5


@pytest.mark.peers
def test_dcmtk_gives_the_number_or_its_images_are_counted(tmp_path: Path) -> None:
    require("dcmqrscp")
    datasets = ct_series(grid(slices=5))
    files = save_series(datasets, tmp_path / "ct")

    with dcmqrscp(tmp_path) as address:
        store(address, files, calling_ae_title="CT1")
        count = count_of(address, datasets[0])

    assert count == 5


def count_of(address: PeerAddress, dataset: Dataset) -> int:
    return count_instances(
        address,
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        calling_ae_title="DELINEATE",
        timeout_s=10.0,
    )


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[PeerAddress]:
    port, storage = free_port(), folder / "archive"
    storage.mkdir()
    (folder / "dcmqrscp.cfg").write_text(
        "MaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {storage} RW (200, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    command = ["dcmqrscp", "-c", str(folder / "dcmqrscp.cfg"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = PeerAddress(name="PACS", ae_title="PACS", host="127.0.0.1", port=port)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                echo(address, calling_ae_title="CT1", timeout_s=5.0)
            except PeerError:
                assert time.monotonic() < until, "dcmqrscp did not start"
                time.sleep(0.1)
            else:
                break
        yield address
    finally:
        process.terminate()
        process.wait(10)

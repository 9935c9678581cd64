"""The model of a power cut that other tests rely on: it must notice every sync that is left out."""

import re
from pathlib import Path

import pytest

from tests.power_cut import Answer, Disk, answers, parse

ROOT = Path("/data")
DONE = ("inbox/1.2/a.dcm",)

# One instance as it should be stored: written, synced, named; the name and the folder's own name synced.
MAKE_FOLDERS = """
1 mkdir("/data/inbox", 0777) = 0
1 mkdir("/data/inbox/.incoming", 0777) = 0
1 mkdir("/data/inbox/1.2", 0777) = 0
"""
SYNC_FOLDERS = """
1 fsync(5</data>) = 0
1 fsync(5</data/inbox>) = 0
"""
WRITE = """
1 openat(AT_FDCWD</>, "/data/inbox/.incoming/x.part", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 7</data/inbox/.incoming/x.part>
1 write(7</data/inbox/.incoming/x.part>, "DICM"..., 5000) = 5000
"""  # noqa: E501
SYNC = """
1 fsync(7</data/inbox/.incoming/x.part>) = 0
"""
RENAME = """
1 rename("/data/inbox/.incoming/x.part", "/data/inbox/1.2/a.dcm") = 0
"""
SYNC_NAME = """
1 fsync(5</data/inbox/1.2>) = 0
"""
STORED = MAKE_FOLDERS + SYNC_FOLDERS + WRITE + SYNC + RENAME + SYNC_NAME


def respond(message_id: int = 1, status: int = 0x0000) -> str:
    """Write the line of a C-STORE response that leaves."""
    elements = ((0x0100, 0x8001), (0x0120, message_id), (0x0800, 0x0101), (0x0900, status))
    command = b"".join(
        b"\0\0" + element.to_bytes(2, "little") + (2).to_bytes(4, "little") + value.to_bytes(2, "little")
        for element, value in elements
    )
    pdv = (len(command) + 2).to_bytes(4, "big") + b"\x01\x03" + command
    pdu = b"\x04\x00" + len(pdv).to_bytes(4, "big") + pdv
    return f'\n9 sendto(8<socket:[7]>, "{pdu.hex()}", {len(pdu)}, 0, NULL, 0) = {len(pdu)}\n'


def played(trace: str, disk: Disk | None = None) -> list[Answer]:
    """Play a trace back whose strings are written as text here, as hexadecimal digits where they are sent."""

    def in_hex(match: re.Match[str]) -> str:
        opening, text, closing = match.groups()
        raw = bytes.fromhex(text) if re.fullmatch("(?:[0-9a-f]{2}){20,}", text) else text.encode()
        return opening + "".join(f"\\x{byte:02x}" for byte in raw) + closing

    lines = [
        re.sub(r'(")([^"]*)(")', in_hex, re.sub(r"(<)([/s][^>]*)(>)", in_hex, line))
        for line in trace.splitlines()
        if line
    ]
    return list(answers(parse("\n".join(lines), cwd=Path("/")), disk or Disk(ROOT)))


def test_an_instance_stored_in_the_right_order_survives_its_answer() -> None:
    (answer,) = played(STORED + respond(message_id=7))

    assert (answer.message_id, answer.status) == (7, 0)
    assert tuple(answer.survivors) == DONE


@pytest.mark.parametrize(
    ("fault", "trace"),
    [
        ("the file is not synced", MAKE_FOLDERS + SYNC_FOLDERS + WRITE + RENAME + SYNC_NAME),
        ("the name is not synced", MAKE_FOLDERS + SYNC_FOLDERS + WRITE + SYNC + RENAME),
        ("the new folder is not synced into its parent", MAKE_FOLDERS + WRITE + SYNC + RENAME + SYNC_NAME),
        ("the folder is synced before the rename", MAKE_FOLDERS + SYNC_FOLDERS + WRITE + SYNC + SYNC_NAME + RENAME),
        ("the file is synced before it is written", MAKE_FOLDERS + SYNC_FOLDERS + SYNC + WRITE + RENAME + SYNC_NAME),
        ("the sync of the file fails", STORED.replace(SYNC, SYNC.replace("= 0", "= -1 EIO (Input/output error)"))),
        ("more is written after the sync", STORED + WRITE.splitlines()[2].replace(".incoming/x.part", "1.2/a.dcm")),
        ("the file is removed again", STORED + '1 unlink("/data/inbox/1.2/a.dcm") = 0\n'),
        ("the file is emptied again", STORED + '1 truncate("/data/inbox/1.2/a.dcm", 0) = 0\n'),
        (
            "a file that is not synced takes its name",
            STORED + WRITE.replace("/x.", "/y.") + RENAME.replace("/x.", "/y."),
        ),
        ("the folder is renamed", STORED + '1 rename("/data/inbox/1.2", "/data/inbox/9") = 0\n'),
    ],
)
def test_a_fault_in_the_order_is_noticed(fault: str, trace: str) -> None:
    (answer,) = played(trace + respond())

    assert DONE[0] not in answer.survivors, fault


@pytest.mark.parametrize("late", [SYNC, SYNC_NAME, SYNC_FOLDERS])
def test_a_sync_that_comes_after_the_answer_is_too_late_for_it(late: str) -> None:
    first, second = played(
        STORED.replace(late, "") + respond(1) + late.replace(".incoming/x.part", "1.2/a.dcm") + respond(2)
    )

    assert DONE[0] not in first.survivors
    assert tuple(second.survivors) == DONE


def test_a_sync_that_has_not_ended_when_the_answer_leaves_does_not_count() -> None:
    begun = "1 fsync(5</data/inbox/1.2> <unfinished ...>\n"
    ended = "1 <... fsync resumed>)              = 0\n"

    before, after = played(STORED.replace(SYNC_NAME, begun) + respond(1) + ended + respond(2))

    assert DONE[0] not in before.survivors
    assert tuple(after.survivors) == DONE


def test_a_write_that_has_not_ended_when_the_sync_begins_is_not_covered_by_it() -> None:
    path = "7</data/inbox/.incoming/x.part>"
    overlapping = (
        f'2 write({path}, "DICM"..., 10 <unfinished ...>\n'
        f"1 fsync({path} <unfinished ...>\n"
        "2 <... write resumed>)  = 10\n"
        "1 <... fsync resumed>)  = 0\n"
    )

    (answer,) = played(STORED.replace(SYNC, overlapping) + respond())

    assert tuple(answer.survivors) == ()


def test_a_file_whose_answer_has_not_left_may_be_there_in_any_state() -> None:
    (answer,) = played(MAKE_FOLDERS + SYNC_FOLDERS + WRITE + RENAME + respond())

    assert answer.survivors == {}
    assert set(answer.uncertain) == {"inbox/.incoming/x.part", "inbox/1.2/a.dcm"}
    assert set(answer.uncertain.values()) == answer.torn


def test_one_sync_of_everything_covers_everything() -> None:
    (answer,) = played(MAKE_FOLDERS + WRITE + RENAME + "1 syncfs(5</data>) = 0\n" + respond())

    assert tuple(answer.survivors) == DONE


def test_a_file_keeps_its_number_when_it_is_renamed() -> None:
    part = MAKE_FOLDERS + SYNC_FOLDERS + WRITE + SYNC + "1 fsync(5</data/inbox/.incoming>) = 0\n"

    before, after = played(part + respond(1) + RENAME + SYNC_NAME + respond(2))

    assert set(before.survivors) == {"inbox/.incoming/x.part"}
    assert list(before.survivors.values()) == list(after.survivors.values())


def test_a_whole_file_that_takes_the_name_of_another_leaves_one_of_the_two() -> None:
    second = (
        "".join((WRITE, SYNC, RENAME)).replace("x.part", "y.part").replace("5000", "5").replace('"DICM"...', '"DICOM"')
    )

    between, after = played(STORED + second + respond(1) + SYNC_NAME + respond(2))

    assert len(between.survivors[DONE[0]]) == 2
    assert after.survivors[DONE[0]] < between.survivors[DONE[0]]


def test_what_was_written_is_known_where_the_trace_shows_all_of_it() -> None:
    open_ = '1 openat(AT_FDCWD</>, "/data/{0}", O_RDWR|O_CREAT, 0666) = 7</data/{0}>\n'
    disk = Disk(ROOT)

    played(
        open_.format("a")
        + '1 write(7</data/a>, "....", 4) = 4\n1 write(7</data/a>, "efgh", 4) = 4\n'
        + '1 pwrite64(7</data/a>, "ab", 2, 0) = 2\n1 lseek(7</data/a>, 2, SEEK_SET) = 2\n'
        + '1 writev(7</data/a>, [{iov_base="c", iov_len=1}, {iov_base="d", iov_len=1}], 2) = 2\n'
        + open_.format("b")
        + '1 write(7</data/b>, "cut off"..., 4000) = 4000\n',
        disk,
    )

    assert list(disk.contents().values()) == [b"abcdefgh"]


def test_paths_beside_a_folders_descriptor_are_read_too() -> None:
    renamed = 'renameat2(5</data/inbox/.incoming>, "x.part", 6</data/inbox/1.2>, "a.dcm", RENAME_NOREPLACE) = 0'

    (answer,) = played(STORED.replace(RENAME.strip()[2:], renamed) + respond())

    assert tuple(answer.survivors) == DONE


def test_what_the_model_does_not_know_stops_it() -> None:
    with pytest.raises(NotImplementedError, match="io_uring_setup"):
        played("1 io_uring_setup(8, {flags=0}) = 5\n" + respond())


def test_a_refusal_is_told_with_its_status() -> None:
    (answer,) = played(MAKE_FOLDERS + respond(message_id=3, status=0xA700))

    assert (answer.message_id, answer.status, answer.survivors) == (3, 0xA700, {})

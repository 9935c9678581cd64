"""What in a hot folder is ready to be taken: decided from looks, on a clock of the test's own."""

from node.domain.drops import Entry, Look, is_dicomdir, is_litter, look

STABLE_S = 2.0


def entry(path: str, *, size: int = 10, modified_ns: int = 1) -> Entry:
    return Entry(parts=tuple(path.split("/")), size=size, modified_ns=modified_ns, inode=7)


def lying(*entries: Entry) -> dict[str, frozenset[Entry]]:
    found: dict[str, frozenset[Entry]] = {}
    for one in entries:
        found[one.parts[0]] = found.get(one.parts[0], frozenset()) | {one}
    return found


def looks(*steps: tuple[float, dict[str, frozenset[Entry]]]) -> Look:
    """Look at each time at what lay there then; gives the last look."""
    found = look({}, {}, 0.0, stable_s=STABLE_S)
    for now, there in steps:
        found = look(there, found.settling, now, stable_s=STABLE_S)
    return found


def test_a_file_is_ready_when_it_was_the_same_for_a_while() -> None:
    there = lying(entry("IM1"))

    assert looks((10.0, there)).ready_files == ()
    assert looks((10.0, there), (11.9, there)).ready_files == ()
    assert looks((10.0, there), (12.0, there)).ready_files == (("IM1",),)


def test_the_next_look_is_when_the_first_may_be_ready() -> None:
    first, both = lying(entry("a")), lying(entry("a"), entry("b"))

    assert looks((10.0, first)).look_again_at == 12.0
    assert looks((10.0, first), (11.0, both)).look_again_at == 12.0
    assert looks((10.0, {})).look_again_at is None


def test_a_file_that_grows_is_not_ready() -> None:
    found = looks(*((float(now), lying(entry("IM1", size=now))) for now in range(10, 20)))

    assert found.ready_files == ()


def test_a_file_that_is_written_to_in_its_middle_is_not_ready() -> None:
    found = looks(*((float(now), lying(entry("IM1", modified_ns=now))) for now in range(10, 20)))

    assert found.ready_files == ()


def test_what_a_file_server_says_of_the_time_does_not_matter() -> None:
    there = lying(entry("IM1", modified_ns=4_000_000_000 * 10**9))

    assert looks((10.0, there), (12.0, there)).ready_files == (("IM1",),)


def test_a_folder_is_ready_as_a_whole_when_nothing_in_it_changed() -> None:
    first, both = lying(entry("ct/IM1")), lying(entry("ct/IM1"), entry("ct/sub/IM2"))

    assert looks((10.0, first), (11.5, both), (12.0, both)).ready_wholes == ()
    assert looks((10.0, first), (11.5, both), (13.5, both)).ready_wholes == (("ct",),)


def test_a_folder_waits_for_files_that_are_still_called_unfinished() -> None:
    there = lying(entry("ct/IM1"), entry("ct/IM2.part"))

    found = looks((10.0, there), (99.0, there))

    assert found.ready_wholes == ()
    assert found.settling["ct",].held_up_by == "1 file(s) in it have names of unfinished ones"


def test_what_is_held_up_is_looked_at_ever_more_rarely() -> None:
    there = lying(entry("ct/IM2.part"))

    soon, late = looks((10.0, there), (12.0, there)), looks((10.0, there), (110.0, there))

    assert soon.look_again_at == 14.0
    assert late.look_again_at == 160.0


def test_unfinished_files_and_litter_at_the_top_are_left_alone() -> None:
    names = [
        "a.part",
        "b.tmp",
        "c~",
        ".hidden",
        "~$d",
        "e.crdownload",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "rejected",
    ]
    there = lying(*(entry(name) for name in names))

    found = looks((10.0, there), (20.0, there))

    assert (found.ready_files, found.ready_wholes, dict(found.settling)) == ((), (), {})


def test_an_empty_folder_is_left_to_whoever_is_about_to_fill_it() -> None:
    found = looks((10.0, {"ct": frozenset()}), (99.0, {"ct": frozenset()}))

    assert found.settling == {}


def test_an_empty_file_is_given_time_to_be_written() -> None:
    there = lying(entry("IM1", size=0))

    assert looks((10.0, there)).look_again_at == 70.0
    assert looks((10.0, there), (69.0, there)).ready_files == ()
    assert looks((10.0, there), (70.0, there)).ready_files == (("IM1",),)


def test_litter_does_not_hold_up_a_folder() -> None:
    there = lying(entry("ct/IM1"), entry("ct/.DS_Store"), entry("ct/__MACOSX/._IM1"))

    assert looks((10.0, there), (12.0, there)).ready_wholes == (("ct",),)


def test_a_dicomdir_makes_one_medium_of_all_that_lies_beside_it() -> None:
    there = lying(entry("DICOMDIR"), entry("IMAGES/IM1"), entry("README.TXT"), entry("a.part"))

    found = looks((10.0, there), (12.0, there))

    # The DICOMDIR last: a process that stops between two renames leaves a medium.
    assert found.ready_wholes == (("IMAGES", "README.TXT", "DICOMDIR"),)
    assert found.ready_files == ()


def test_a_medium_is_not_ready_while_one_of_its_files_grows() -> None:
    first = lying(entry("DICOMDIR"), entry("IMAGES/IM1"))
    more = lying(entry("DICOMDIR"), entry("IMAGES/IM1"), entry("IMAGES/IM2"))

    assert looks((10.0, first), (11.0, more), (12.5, more)).ready_wholes == ()


def test_litter_and_directories_are_known_however_they_are_written() -> None:
    assert all(map(is_litter, [("a", "THUMBS.DB"), ("__macosx", "b", "IM1"), ("._IM1",)]))
    assert not any(map(is_litter, [("IM1",), ("Thumbs.db.dcm",)]))
    assert all(map(is_dicomdir, ["DICOMDIR", "dicomdir", "DICOMDIR;1", "DICOMDIR."]))
    assert not any(map(is_dicomdir, ["DICOMDIR.dcm", "DICOM"]))

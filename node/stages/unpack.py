"""Unpack: one dropped file, or one archive of files, into instances on their way to the inbox.

Files are read in pieces and never unpacked to disk; names of members are compared, never used as paths.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import BinaryIO

from node.dicom.directory import comparable, referenced_files
from node.dicom.envelope import series_of
from node.dicom.file_meta import MEDIA_STORAGE_DIRECTORY, FileMeta, is_uid, read_file_meta
from node.domain.arrival import (
    AssociationEnding,
    Caller,
    LackingInstance,
    ReceiverObserver,
    StoreAnswer,
    StoredInstance,
)
from node.domain.drops import is_dicomdir, is_litter
from node.domain.errors import InputError, ResourceError
from node.stages.ports import Begin, Member, TakenFile

# What the sender is called of whom nothing else is known.
HOT_FOLDER = "HOT_FOLDER"

PIECE_BYTES = 1 << 20
MOST_MEMBERS = 100_000
LARGEST_DICOMDIR_BYTES = 1 << 26

_CHANGED = "a file changed while it was read"
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# As `receive` gives them. PS3.4 B.2.3: out of resources is A7xx.
_OUT_OF_RESOURCES = 0xA7
_UNABLE_TO_PROCESS = 0xC001
_CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What is taken, as from the network."""

    # UID -> name.
    sop_classes: Mapping[str, str]
    transfer_syntaxes: Mapping[str, str]
    # No archive may unpack to more than the disk holds when it is empty.
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class TakenIn:
    """Durable in the inbox."""

    instances: int


@dataclass(frozen=True, slots=True)
class Litter:
    """Left behind by a desktop; holds nothing."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not to be taken in, as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """No fault of the file: it stays where it is."""

    reason: str


Outcome = TakenIn | Litter | Rejected | Later


class LooseFiles:
    """Files to which others may belong: nobody says when the last one has come."""

    def __init__(self, drop: str, ae_title: str, observer: ReceiverObserver, now: Callable[[], float]) -> None:
        self._caller = Caller(association_id=drop, calling_ae_title=HOT_FOLDER, called_ae_title=ae_title, address="")
        self._observer = observer
        self._now = now

    def stored(self, stored: StoredInstance) -> None:
        """Take note of a durable instance."""

    def refused(self, answer: StoreAnswer) -> None:
        """Tell of an instance that was not taken in."""
        self._observer.instance_refused(self._caller, answer, self._now())

    def lost_something(self) -> None:
        """Take note that an instance is missing of which nothing is known."""

    def end(self) -> None:
        """Take note that everything in it is durable, or rejected."""

    def archive(self, parts: Sequence[str]) -> "LooseFiles":
        """Give what the members of an archive among these files are part of; the same when it is read again."""
        name = sha256("/".join((self._caller.association_id, *parts)).encode(errors="replace")).hexdigest()[:32]
        return WholeDrop(name, self._caller.called_ae_title, self._observer, self._now)


class WholeDrop(LooseFiles):
    """A folder, a medium or an archive: told to the observer as an association that is released at its end."""

    def __init__(self, drop: str, ae_title: str, observer: ReceiverObserver, now: Callable[[], float]) -> None:
        super().__init__(drop, ae_title, observer, now)
        self._ending: AssociationEnding = "released"
        observer.association_opened(self._caller, now())

    def stored(self, stored: StoredInstance) -> None:
        """Tell of a durable instance: the drop contributes to its series."""
        self._observer.instance_stored(self._caller, stored, self._now())

    def lost_something(self) -> None:
        """Let the drop be no evidence that its series are whole."""
        self._ending = "aborted"

    def end(self) -> None:
        """Tell that nothing more comes of this drop."""
        self._observer.association_ended(self._caller, self._ending, self._now())

    def archive(self, parts: Sequence[str]) -> LooseFiles:
        """Give the drop itself: an archive in it is a part of it."""
        return self


class Unpacker:
    """Hands the instances in files and archives to the inbox.

    Parameters
    ----------
    has_room_for
        Tells whether the inbox takes that many bytes.
    members_of
        Opens an archive; raises InputError.
    """

    def __init__(
        self,
        *,
        begin: Begin,
        has_room_for: Callable[[int], bool],
        members_of: Callable[[BinaryIO], Sequence[Member]],
        accepted: Accepted,
    ) -> None:
        self._begin = begin
        self._has_room_for = has_room_for
        self._members_of = members_of
        self._accepted = accepted

    def unpack(self, taken: TakenFile, drop: LooseFiles) -> Outcome:
        """Bring what a file holds into the inbox, as a part of a drop."""
        if is_litter(taken.parts):
            return Litter()
        if taken.kind != "file":
            return Rejected(_NO_FILE[taken.kind])
        try:
            with taken.open() as file:
                return self._read(taken, file, drop)
        except InputError as error:
            return Rejected(error.reason)
        except ResourceError as error:
            return Later(error.reason)
        except OSError as error:
            return Later(f"a file cannot be read ({error.strerror})")

    def _read(self, taken: TakenFile, file: BinaryIO, drop: LooseFiles) -> Outcome:
        start = file.read(PIECE_BYTES)
        if not _is_archive(start):
            return self._instance(_pieces(taken, file, start), drop)
        inside = drop.archive(taken.parts)
        outcome = self._archive(taken, file, inside)
        if inside is not drop and not isinstance(outcome, Later):
            inside.end()
        return outcome

    # One instance ----------------------------------------------------------------------------------------------------

    def _instance(self, pieces: Iterator[bytes], drop: LooseFiles) -> Outcome:
        head = next(pieces, b"")
        meta = read_file_meta(head)
        start = head[meta.length :]
        self._check_accepted(meta, start, drop)
        reception = self._begin(meta, meta.source_ae_title or HOT_FOLDER)
        try:
            for piece in chain([start], pieces):
                reception.write(piece)
        except BaseException as error:
            reception.abandon()
            if isinstance(error, InputError):
                drop.refused(_answer(error.reason, meta, start, drop))
            raise
        return _outcome(reception.finish(), drop)

    def _check_accepted(self, meta: FileMeta, start: bytes, drop: LooseFiles) -> None:
        """Refuse what is not taken from the network either."""
        if meta.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
            raise InputError("a directory of a medium that is damaged, or not called DICOMDIR")
        if meta.sop_class_uid not in self._accepted.sop_classes:
            raise InputError(f"SOP Class {meta.sop_class_uid} is not taken; CONFORMANCE.md lists those that are")
        if meta.transfer_syntax_uid not in self._accepted.transfer_syntaxes:
            reason = f"Transfer Syntax {meta.transfer_syntax_uid} is not taken"
            drop.refused(_answer(reason, meta, start, drop))
            raise InputError(f"{reason}; CONFORMANCE.md lists those that are")

    # Archives --------------------------------------------------------------------------------------------------------

    def _archive(self, taken: TakenFile, file: BinaryIO, drop: LooseFiles) -> Outcome:
        before = taken.stamp()
        members = [member for member in self._members_of(file) if not is_litter(member.parts)]
        refusal = self._no_room(members)
        if refusal is not None:
            return refusal
        instances, faults = 0, dict[str, list[int]]()
        for member in members:
            outcome = self._member(member, members, taken, drop)
            if isinstance(outcome, Later):
                return outcome
            if isinstance(outcome, TakenIn):
                instances += outcome.instances
            if isinstance(outcome, Rejected):
                faults.setdefault(outcome.reason, []).append(member.number)
        if taken.stamp() != before:
            return Later(_CHANGED)
        return Rejected(_members_said(faults, len(members))) if faults else TakenIn(instances)

    def _no_room(self, members: Sequence[Member]) -> Rejected | Later | None:
        if not members:
            return Rejected("an archive without files")
        if len(members) > MOST_MEMBERS:
            return Rejected(f"an archive of {len(members)} files; at most {MOST_MEMBERS} are taken")
        unpacked = sum(member.size for member in members)
        said = f"an archive that unpacks to {unpacked / 1e9:.1f} GB"
        if unpacked > self._accepted.disk_bytes:
            return Rejected(f"{said}, more than this node's disk holds")
        return None if self._has_room_for(unpacked) else Later(f"{said}; not so much disk is free")

    def _member(self, member: Member, members: Sequence[Member], taken: TakenFile, drop: LooseFiles) -> Outcome:
        pieces = member.pieces()
        try:
            head = next(pieces)
        except InputError as error:
            drop.lost_something()
            return Rejected(error.reason)
        try:
            if _is_archive(head):
                return Rejected("an archive within an archive")
            if member.parts and is_dicomdir(member.parts[-1]):
                return _directory_in_archive(member, members, taken)
            return self._instance(chain([head], pieces), drop)
        except InputError as error:
            return Rejected(error.reason)


def _is_archive(start: bytes) -> bool:
    # A DICOM file's preamble may hold anything.
    return start.startswith(_ZIP_STARTS) and start[128:132] != b"DICM"


_NO_FILE = {
    "link": "a link: links are not followed; drop the file itself",
    "other": "neither a file nor a folder",
}


def _pieces(taken: TakenFile, file: BinaryIO, start: bytes) -> Iterator[bytes]:
    """Give a file in pieces.

    Raises
    ------
    ResourceError
        It was written to meanwhile, or the disk is low.
    """
    before = taken.stamp()
    yield start
    while piece := file.read(PIECE_BYTES):
        yield piece
    if taken.stamp() != before:
        raise ResourceError(_CHANGED)


def _outcome(answer: StoreAnswer, drop: LooseFiles) -> Outcome:
    if answer.stored is not None:
        drop.stored(answer.stored)
        return TakenIn(1)
    if answer.status >> 8 == _OUT_OF_RESOURCES or answer.status == _UNABLE_TO_PROCESS:
        return Later(answer.error_comment)
    drop.refused(answer)
    return Rejected(answer.error_comment)


def _answer(reason: str, meta: FileMeta, start: bytes, drop: LooseFiles) -> StoreAnswer:
    """Give the answer for an instance that does not reach the inbox, with the series that lacks it now."""
    series_uid = series_of(start, meta.transfer_syntax_uid)
    if not is_uid(series_uid):
        drop.lost_something()
        return StoreAnswer(status=_CANNOT_UNDERSTAND, error_comment=reason)
    lacking = LackingInstance(series_instance_uid=series_uid, sop_instance_uid=meta.sop_instance_uid)
    return StoreAnswer(status=_CANNOT_UNDERSTAND, error_comment=reason, lacking=lacking)


def _members_said(faults: Mapping[str, Sequence[int]], count: int) -> str:
    """Say which members were not taken in, by number: their names often are those of patients."""
    lines = [f"member {', '.join(map(str, numbers))}: {reason}" for reason, numbers in faults.items()]
    failed = sum(map(len, faults.values()))
    return "\n".join([f"an archive of {count} files, of which {failed} were not taken in:", *lines])


# The directories of media --------------------------------------------------------------------------------------------


def missing_from(written: bytes, folder: Sequence[str], there: frozenset[tuple[str, ...]]) -> str:
    """Say how many of the files that a DICOMDIR names are not there; empty where all are.

    Parameters
    ----------
    folder
        Where the DICOMDIR lies.
    there
        The paths of all files, as `comparable` gives them.

    Raises
    ------
    InputError
        It is no DICOMDIR, or damaged.
    """
    if read_file_meta(written).sop_class_uid != MEDIA_STORAGE_DIRECTORY:
        raise InputError("a file called DICOMDIR that is none")
    named = {(*comparable(tuple(folder)), *parts) for parts in referenced_files(written)}
    missing = len(named - there)
    return f"DICOMDIR names {len(named)} files, {missing} are not there" if missing else ""


def _directory_in_archive(member: Member, members: Sequence[Member], taken: TakenFile) -> Outcome:
    if member.size > LARGEST_DICOMDIR_BYTES:
        return Rejected("a DICOMDIR of more than 64 MB")
    there = frozenset(comparable(one.parts) for one in members)
    said = missing_from(b"".join(member.pieces()), member.parts[:-1], there)
    if said:
        taken.note(f"{said}.", beside=".DICOMDIR")
    return TakenIn(0)

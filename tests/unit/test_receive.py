"""What is decided about one arrival before anything is stored."""

import struct
import zlib
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage

from node.dicom import envelope
from node.dicom.file_meta import is_uid
from node.domain.arrival import (
    Arrival,
    Fragment,
    InstanceIdentity,
    LackingInstance,
    Readable,
    StoreAnswer,
    StoredInstance,
)
from node.domain.errors import ResourceError
from node.stages.ports import Inbox
from node.stages.receive import (
    LONGEST_ERROR_COMMENT,
    NO_LIMITS_GIVEN,
    STORE_STATUSES,
    ReceiveLimits,
    begin,
    examine,
)
from tests.builders import ct_series, grid, uid

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG_BASELINE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"


def image() -> Dataset:
    """Build one CT instance of 24 × 40 pixels: 1920 bytes."""
    return ct_series(grid(slices=3))[0]


def encoded(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    """Encode a dataset as it travels; the pixels' own byte order is left as it is."""
    syntax = UID(transfer_syntax_uid)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, dataset)
    raw = buffer.getvalue()
    if not syntax.is_deflated:
        return raw
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(raw) + deflate.flush()


@dataclass(frozen=True, slots=True)
class Offered:
    """An arrival and its data set, as a sender offers them."""

    arrival: Arrival
    data_set: bytes

    def but(self, *, data_set: bytes | None = None, **changes: str) -> "Offered":
        """Give the same, changed."""
        return Offered(replace(self.arrival, **changes), self.data_set if data_set is None else data_set)

    def examined(self) -> InstanceIdentity | StoreAnswer:
        """Examine it."""
        return examine(self.arrival, self.data_set)

    def received(self, inbox: Inbox, limits: ReceiveLimits = NO_LIMITS_GIVEN, *, piece: int = 700) -> StoreAnswer:
        """Receive it in pieces."""
        reception = begin(self.arrival, inbox, limits)
        for start in range(0, len(self.data_set), piece):
            reception.write(memoryview(self.data_set)[start : start + piece])
        return reception.finish()


def arrival(dataset: Dataset | None = None, transfer_syntax_uid: str = EXPLICIT) -> Offered:
    """Build the arrival of a dataset, all in order."""
    dataset = image() if dataset is None else dataset
    header = Arrival(
        affected_sop_class_uid=str(dataset.get("SOPClassUID", CTImageStorage)),
        affected_sop_instance_uid=str(dataset.get("SOPInstanceUID", "1.2.3")),
        abstract_syntax_uid=str(dataset.get("SOPClassUID", CTImageStorage)),
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title="SCANNER",
        called_ae_title="DELINEATE",
        association_id="a1",
    )
    return Offered(header, encoded(dataset, transfer_syntax_uid))


def refused(one: Offered) -> StoreAnswer:
    """Examine an arrival that must be refused."""
    verdict = one.examined()
    assert isinstance(verdict, StoreAnswer)
    assert 0 < len(verdict.error_comment) <= LONGEST_ERROR_COMMENT
    assert verdict.error_comment.isascii()
    return verdict


@dataclass
class FakeInbox:
    """An inbox in memory."""

    room: bool = True
    broken: bool = False
    # Breaks only once so many bytes were written.
    breaks_after: int = 2**60
    instances: int = 0
    stored: list[InstanceIdentity] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    discarded: int = 0

    def has_room_for(self, byte_count: int) -> bool:
        """Tell what the test said."""
        return self.room

    def takes_more_of(self, series_uid: str, most: int) -> bool:
        """Count what the test said."""
        return self.instances < most

    def open(self, arrival: Arrival) -> "FakePart":
        """Begin."""
        return FakePart(self)


@dataclass
class FakePart:
    """A part in memory."""

    inbox: FakeInbox
    content: bytearray = field(default_factory=bytearray)

    def write(self, *fragments: Fragment) -> None:
        """Append."""
        if len(self.content) > self.inbox.breaks_after:
            raise ResourceError("The disk is full.")
        self.content += b"".join(fragments)

    def data_set(self) -> Readable:
        """Give all."""
        return bytes(self.content)

    def store(self, identity: InstanceIdentity) -> StoredInstance:
        """Remember the identity."""
        if self.inbox.broken:
            raise ResourceError("The disk is full.")
        self.inbox.stored.append(identity)
        return StoredInstance(
            series_instance_uid=identity.series_instance_uid,
            sop_instance_uid=identity.sop_instance_uid,
            file_name="x.dcm",
            was_there=False,
        )

    def reject(self, reason: str) -> None:
        """Remember the reason."""
        if self.inbox.broken:
            raise ResourceError("The disk is full.")
        self.inbox.rejected.append(reason)

    def discard(self) -> None:
        """Count."""
        self.inbox.discarded += 1


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_identifiers_are_read_in_every_encoding(transfer_syntax_uid: str) -> None:
    dataset = image()

    verdict = arrival(dataset, transfer_syntax_uid).examined()

    assert verdict == InstanceIdentity(
        sop_class_uid=CTImageStorage,
        sop_instance_uid=dataset.SOPInstanceUID,
        study_instance_uid=dataset.StudyInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
    )


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_data_set_cut_anywhere_is_refused(transfer_syntax_uid: str) -> None:
    whole = arrival(transfer_syntax_uid=transfer_syntax_uid)
    starts_of_elements = set()
    if transfer_syntax_uid != DEFLATED:
        source = envelope._Bytes(whole.data_set)
        walk = envelope._Walk(source, little_endian=UID(transfer_syntax_uid).is_little_endian)
        starts_of_elements = {
            source._position for _ in walk.elements(implicit_vr=UID(transfer_syntax_uid).is_implicit_VR)
        }
        starts_of_elements.add(0)

    for length in range(len(whole.data_set)):
        if length not in starts_of_elements:
            assert refused(whole.but(data_set=whole.data_set[:length])).status == 0xC000


def test_the_comment_says_how_much_is_missing() -> None:
    whole = arrival()

    answer = refused(whole.but(data_set=whole.data_set[:-920]))

    assert answer.error_comment == "Data set ends inside (7FE0,0010): 1000 of 1920 bytes"


def test_pixel_data_shorter_than_rows_and_columns_ask_for_is_refused_with_figures() -> None:
    dataset = image()
    dataset.PixelData = dataset.PixelData[:1000]

    answer = refused(arrival(dataset))

    assert (answer.status, answer.offending_elements) == (0xC000, (0x7FE00010,))
    assert answer.error_comment == "Pixel Data is too short: 1000 of 1920 bytes"


def test_pixel_data_of_several_frames_is_counted_whole() -> None:
    dataset = image()
    dataset.NumberOfFrames = 2

    answer = refused(arrival(dataset))

    assert answer.error_comment == "Pixel Data is too short: 1920 of 3840 bytes"


def test_encapsulated_pixel_data_is_not_measured_by_rows_and_columns() -> None:
    dataset = image()
    del dataset.PixelData
    one = arrival(dataset, JPEG_BASELINE)
    fragments = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0"
    fragments += b"\xfe\xff\x00\xe0\x04\0\0\0JPEG" + b"\xfe\xff\xdd\xe0\0\0\0\0"

    assert isinstance(one.but(data_set=one.data_set + fragments).examined(), InstanceIdentity)
    cut = refused(one.but(data_set=one.data_set + fragments[:-8]))
    assert cut.error_comment == "Data set ends inside (7FE0,0010), before its delimiter"


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_identifier_is_named(keyword: str, empty: bool) -> None:
    dataset = image()
    one = arrival(dataset)
    dataset[keyword].value = ""
    if not empty:
        del dataset[keyword]

    answer = refused(one.but(data_set=encoded(dataset)))

    assert answer.status == 0xC000
    assert "is missing or empty" in answer.error_comment
    assert answer.offending_elements != ()


@pytest.mark.parametrize(
    "escape",
    ["../../etc/passwd", "/tmp/x", "..", ".", "1.2/../3", "1.2\\3", "1.2.3\n4", "1." + "2" * 63, "1.2.", ".1", "uid"],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_could_leave_the_folder_is_refused(escape: str) -> None:
    assert not is_uid(escape)
    for tag in (b"\x20\x00\x0e\x00", b"\x20\x00\x0d\x00", b"\x08\x00\x18\x00"):
        value = escape.encode() + b"\0" * (len(escape) % 2)
        element = tag + b"UI" + struct.pack("<H", len(value)) + value
        one = arrival()

        # The element is there twice; the latter wins.
        answer = refused(one.but(data_set=one.data_set + element))

        assert answer.status == 0xC000


def test_uids_with_leading_zeros_pass_because_scanners_write_them() -> None:
    assert is_uid("1.2.0840.010")


def test_the_sop_class_must_be_that_of_the_command() -> None:
    one = arrival()

    answer = refused(one.but(affected_sop_class_uid=MRImageStorage, abstract_syntax_uid=MRImageStorage))

    assert (answer.status, answer.offending_elements) == (0xA900, (0x00080016,))


def test_the_command_must_keep_to_its_presentation_context() -> None:
    answer = refused(arrival().but(abstract_syntax_uid=MRImageStorage))

    assert answer.status == 0x0122


def test_the_sop_instance_must_be_that_of_the_command() -> None:
    answer = refused(arrival().but(affected_sop_instance_uid="1.2.3"))

    assert (answer.status, answer.offending_elements) == (0xC000, (0x00080018,))


def test_a_data_set_in_another_transfer_syntax_is_refused() -> None:
    implicit = arrival(transfer_syntax_uid=IMPLICIT)

    assert refused(implicit.but(transfer_syntax_uid=EXPLICIT)).status == 0xC000
    assert refused(implicit.but(transfer_syntax_uid=DEFLATED)).status == 0xC000


def test_an_empty_data_set_is_refused() -> None:
    assert refused(arrival().but(data_set=b"")).error_comment == "The data set is empty"


@pytest.mark.parametrize(("depth", "taken"), [(400, True), (20_000, False)])
def test_deep_nesting_is_walked_without_recursion_and_bounded(depth: int, taken: bool) -> None:
    sequence = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    one = arrival()

    deep = (sequence + item) * depth + end * depth

    assert isinstance(one.but(data_set=one.data_set + deep).examined(), InstanceIdentity) is taken
    assert refused(one.but(data_set=one.data_set + deep[:-8])).status == 0xC000


def test_elements_without_end_are_not_walked_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MOST_ELEMENTS", 1000)
    one = arrival()

    answer = refused(one.but(data_set=one.data_set + b"\xe1\x7f\x10\x00UN\0\0\0\0\0\0" * 1000))

    assert answer.error_comment == "The data set has more than 1000 elements"


def test_a_small_data_set_cannot_inflate_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "LARGEST_INFLATED_BYTES", 100_000)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(b"\0" * 10_000_000) + deflate.flush()

    answer = refused(arrival().but(data_set=bomb, transfer_syntax_uid=DEFLATED))

    assert "inflates to more than" in answer.error_comment


@given(junk=st.binary(max_size=400), syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]))
def test_any_bytes_get_an_answer(junk: bytes, syntax: str) -> None:
    one = arrival_of_image().but(data_set=junk, transfer_syntax_uid=syntax)

    assert isinstance(one.examined(), StoreAnswer)


@given(position=st.integers(min_value=0), bits=st.integers(min_value=1, max_value=255))
def test_any_damaged_byte_gets_an_answer_and_safe_names(position: int, bits: int) -> None:
    whole = arrival_of_image()
    damaged = bytearray(whole.data_set)
    damaged[position % len(damaged)] ^= bits

    verdict = whole.but(data_set=bytes(damaged)).examined()

    if isinstance(verdict, InstanceIdentity):
        assert all(map(is_uid, (verdict.series_instance_uid, verdict.sop_instance_uid)))
    else:
        assert verdict.status in {status.code for status in STORE_STATUSES}


def arrival_of_image(_made: list[Offered] = []) -> Offered:  # noqa: B006 - built once for all examples
    """Give one arrival, always the same."""
    if not _made:
        _made.append(arrival())
    return _made[0]


def test_what_is_in_order_is_stored() -> None:
    inbox = FakeInbox()

    answer = arrival().received(inbox)

    assert answer.status == 0x0000
    assert answer.stored is not None
    assert answer.stored.series_instance_uid == uid("series", "series")
    assert len(inbox.stored) == 1


def test_what_is_refused_is_kept_with_its_reason() -> None:
    inbox = FakeInbox()

    answer = arrival().but(data_set=b"").received(inbox)

    assert answer.stored is None
    assert inbox.rejected == [answer.error_comment]
    assert inbox.stored == []


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_refusal_names_the_series_that_lacks_the_instance(transfer_syntax_uid: str) -> None:
    whole = arrival(transfer_syntax_uid=transfer_syntax_uid)
    lacking = LackingInstance(
        series_instance_uid=uid("series", "series"), sop_instance_uid=whole.arrival.affected_sop_instance_uid
    )

    cut_off = whole.but(data_set=whole.data_set[:-920]).received(FakeInbox())
    disk_low = whole.received(FakeInbox(room=False))
    unreadable = whole.but(data_set=whole.data_set[:20]).received(FakeInbox())
    stored = whole.received(FakeInbox())

    assert (cut_off.lacking, disk_low.lacking) == (lacking, lacking)
    assert (unreadable.lacking, stored.lacking) == (None, None)


@pytest.mark.parametrize("data_set", [b"", encoded(image())])
def test_a_low_disk_refuses_before_anything_is_kept(data_set: bytes) -> None:
    inbox = FakeInbox(room=False)

    answer = arrival().but(data_set=data_set).received(inbox)

    assert answer.status == 0xA700
    assert (inbox.stored, inbox.rejected) == ([], [])


@pytest.mark.parametrize("data_set", [b"", encoded(image())])
def test_a_disk_that_fails_never_yields_success(data_set: bytes) -> None:
    answer = arrival().but(data_set=data_set).received(FakeInbox(broken=True))

    assert answer.status == 0xA700
    assert answer.stored is None


def test_a_disk_that_fills_up_on_the_way_refuses_and_leaves_nothing() -> None:
    inbox = FakeInbox(breaks_after=1000)

    answer = arrival().received(inbox)

    assert (answer.status, answer.error_comment) == (0xA700, "The disk refused the file: send again later")
    assert answer.lacking is not None
    assert (inbox.stored, inbox.discarded) == ([], 1)


def test_an_instance_larger_than_allowed_is_refused_and_nothing_of_it_kept() -> None:
    inbox = FakeInbox()

    answer = arrival().received(inbox, ReceiveLimits(maximum_object_bytes=2000))

    assert answer.status == 0xC002
    assert "see maximum_object_mb" in answer.error_comment
    assert answer.lacking is not None
    assert (inbox.stored, inbox.rejected, inbox.discarded) == ([], [], 1)


def test_a_series_larger_than_allowed_is_refused() -> None:
    full, almost_full = FakeInbox(instances=10), FakeInbox(instances=9)
    limits = ReceiveLimits(maximum_series_instances=10)

    refusal, success = arrival().received(full, limits), arrival().received(almost_full, limits)

    assert (refusal.status, success.status) == (0xC002, 0x0000)
    assert refusal.error_comment == "Series has 10 instances, see maximum_series_instances"


def test_what_is_abandoned_is_discarded() -> None:
    inbox = FakeInbox()
    reception = begin(arrival().arrival, inbox)
    reception.write(b"half")

    reception.abandon()

    assert (inbox.stored, inbox.rejected, inbox.discarded) == ([], [], 1)


def test_every_status_is_in_the_table() -> None:
    codes = [status.code for status in STORE_STATUSES]

    assert codes == sorted(set(codes))
    assert {0x0000, 0x0122, 0xA700, 0xA900, 0xC000} <= set(codes)

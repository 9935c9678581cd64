"""Try the spooling transport against the pynetdicom that is installed, before anybody depends on it."""

from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context

from node.adapters.calling import keep_answers
from node.domain.arrival import Arrival, Fragment, Reception, StoreAnswer

_VERIFICATION = "1.2.840.10008.1.1"
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
# Any other than success, so that only our own answer can be it; PS3.4 B.2.3, "cannot understand".
_STATUS = 0xC0DE
# For a machine that starts everything at once: who gives up here receives slowly until its next start.
_TIMEOUT_S = 30.0


class _Kept:
    """Keeps what came, and answers with a status of its own."""

    def __init__(self) -> None:
        self.data_set = bytearray()

    def write(self, *fragments: Fragment) -> None:
        """Append."""
        self.data_set += b"".join(fragments)

    def finish(self) -> StoreAnswer:
        """Answer as nothing else would."""
        return StoreAnswer(status=_STATUS, error_comment="check")

    def abandon(self) -> None:
        """Keep it all the same."""


def fault_of_spooling(serve: Callable[[Callable[[Arrival], Reception]], Any]) -> str | None:
    """Send an echo and two instances to a receiver of our own; give what went wrong, or None.

    Parameters
    ----------
    serve
        Starts a receiver on the loopback interface that receives as it is told; gives it, to be stopped.
    """
    kept: list[_Kept] = []

    def begin(_arrival: Arrival) -> Reception:
        kept.append(_Kept())
        return kept[-1]

    try:
        receiver = serve(begin)
        try:
            return _tried(receiver.port, kept)
        finally:
            receiver.stop()
    except Exception as error:  # whatever another pynetdicom may raise
        return f"{type(error).__name__} in the check"


def _tried(port: int, kept: list[_Kept]) -> str | None:
    entity = AE(ae_title="CHECK")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    contexts = [build_context(_VERIFICATION), build_context(_CT_IMAGE, ExplicitVRLittleEndian)]
    association = entity.associate("127.0.0.1", port, contexts=contexts)
    if not association.is_established:
        return "no association was established"
    keep_answers(association)
    try:
        if association.send_c_echo().get("Status") != 0:
            return "C-ECHO was not answered"
        # More than one PDU, and less.
        for size in (300_000, 1_000):
            answer = association.send_c_store(_image(size))
            if (answer.get("Status"), answer.get("ErrorComment")) != (_STATUS, "check"):
                return "C-STORE was not answered by us"
            if not kept[-1].data_set.endswith(b"\x01\x02" * (size // 2)):
                return "a data set did not arrive as it was sent"
    finally:
        association.release()
    return None if association.is_released else "the release was not answered"


def _image(size: int) -> Dataset:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = _CT_IMAGE, "1.2.3"
    image.Rows = 1
    image.add_new(0x7FE00010, "OW", b"\x01\x02" * (size // 2))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image

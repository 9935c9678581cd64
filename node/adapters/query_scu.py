"""The Query SCU: asks an archive by C-FIND how many instances a series has.

Study Root Query/Retrieve Information Model (PS3.4 C.6.2). Number of Series Related Instances is an optional key: of an
archive that does not give it, the answers at image level are counted.
"""

import socket
import time
from typing import Any, Literal, get_args

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context

from node.adapters.calling import keep_answers
from node.domain.delivery import PeerAddress
from node.domain.errors import PeerError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

STUDY_ROOT_FIND_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

Level = Literal["SERIES", "IMAGE"]
LEVELS: tuple[Level, ...] = get_args(Level)

_PENDING = (0xFF00, 0xFF01)
# No series has more; an archive that answers on and on is not listened to.
_MOST_ANSWERS = 20_000


def count_instances(
    archive: PeerAddress, study_uid: str, series_uid: str, *, calling_ae_title: str, timeout_s: float
) -> int:
    """Ask how many instances of a series an archive has; 0 where it does not know the series.

    Parameters
    ----------
    timeout_s
        Longest wait for a connection, for the association, and for each answer.

    Raises
    ------
    PeerError
        The archive cannot be reached, takes no C-FIND, is silent, or answers with a failure.
    """
    association = _open(archive, calling_ae_title, timeout_s)
    try:
        found = _find(association, _identifier("SERIES", study_uid, series_uid), timeout_s)
        # Some archives answer with every series of the study.
        own = [one for one in found if one.get("SeriesInstanceUID") == series_uid]
        stated = own[0].get("NumberOfSeriesRelatedInstances") if own else 0
        if stated is None:
            stated = len(_find(association, _identifier("IMAGE", study_uid, series_uid), timeout_s))
    except BaseException:
        association.abort()
        raise
    association.release()
    return int(stated)


def keys(level: Level) -> dict[str, str]:
    """Give the keys of a question at a level: keyword -> how it is matched."""
    unique = {"StudyInstanceUID": "single value", "SeriesInstanceUID": "single value"}
    asked_for = "NumberOfSeriesRelatedInstances" if level == "SERIES" else "SOPInstanceUID"
    return {**unique, asked_for: "universal"}


def _identifier(level: Level, study_uid: str, series_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keys(level):
        setattr(identifier, keyword, None)
    identifier.StudyInstanceUID = study_uid
    identifier.SeriesInstanceUID = series_uid
    return identifier


def _open(archive: PeerAddress, calling_ae_title: str, timeout_s: float) -> Any:
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(ae_title=calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    contexts = [build_context(STUDY_ROOT_FIND_CLASS, IMPLICIT_VR_LITTLE_ENDIAN)]
    try:
        association = entity.associate(archive.host, archive.port, contexts=contexts, ae_title=archive.ae_title)
    except socket.gaierror as error:
        raise PeerError(f"{archive.host} cannot be resolved.", "Mend the archive's host in [[archives]].") from error
    if not association.is_established:
        why = "takes no C-FIND" if association.rejected_contexts else "took no association"
        raise PeerError(f"it {why} ({archive.host}:{archive.port})", "Compare [[archives]] with what it knows of us.")
    keep_answers(association)
    return association


def _find(association: Any, identifier: Dataset, timeout_s: float) -> list[Dataset]:
    """Give the answers that match; the last one carries the status."""
    found: list[Dataset] = []
    heard_at = time.monotonic()
    for status, answer in association.send_c_find(identifier, STUDY_ROOT_FIND_CLASS):
        if "Status" not in status:
            if time.monotonic() - heard_at >= timeout_s:
                raise PeerError(f"it did not answer within {timeout_s:g} s")
            raise PeerError("it aborted the association instead of answering")
        heard_at = time.monotonic()
        if status.Status not in _PENDING:
            if status.Status != 0:
                raise PeerError(f"it answers C-FIND with status 0x{status.Status:04X}")
            return found
        if answer is not None:
            found.append(answer)
        if len(found) > _MOST_ANSWERS:
            raise PeerError("it answers without end")
    return found

"""All errors of the node, divided by who can mend them.

Catch broadly in one place only: each stage's loop. Everywhere else an error goes up.
"""

import traceback


class NodeError(Exception):
    """Something that a person must hear of.

    Parameters
    ----------
    reason
        What is wrong, in one sentence that names the object and the figure, and no patient.
    remedy
        What the person whose turn it is can do; empty where the class says it all.
    """

    remedy_by_default = ""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy or self.remedy_by_default

    def __reduce__(self) -> tuple[type["NodeError"], tuple[str, str]]:
        # Exceptions cross process borders pickled; the default would lose the remedy.
        return type(self), (self.reason, self.remedy)


class InputError(NodeError):
    """What was received cannot be contoured: the sender's turn."""

    remedy_by_default = "Send a complete, regular series of one modality and one orientation."


class SetupError(NodeError):
    """The configuration, a model package or the installation is wrong: our operator's turn."""

    remedy_by_default = "Run `delineate check` and mend what it names."


class NotFiniteError(SetupError):
    """A network answered with a value that is no finite number: in float16, a case for float32."""


class PeerError(NodeError):
    """A destination did not take an object: its turn, and we try again."""

    remedy_by_default = "Nothing: the node tries again by itself. `delineate check` tests every destination."


class UnreachableError(PeerError):
    """A destination cannot be talked to at all: as soon as it answers a C-ECHO, what waits for it goes."""


class ResourceError(NodeError):
    """This machine lacks memory, disk or a device just now: we try again later."""

    remedy_by_default = "Free memory or disk on this machine; the node goes on by itself."


class StorageError(ResourceError):
    """The disk or the database does not take what must be kept: no job's fault, so that none fails for it."""

    remedy_by_default = "Free disk on this machine; the node goes on by itself."


class VerificationError(NodeError):
    """A result does not say what the label map says: it is quarantined and never sent; the developers' turn."""

    remedy_by_default = "The result is kept in quarantine and was not sent: report it, with the job's log."


def place_of(error: BaseException) -> str:
    """Say where an exception was raised, the innermost frames first, for the log.

    Without its message and without local variables: a foreign error may quote a header, and so the patient.
    """
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)) or "unknown"

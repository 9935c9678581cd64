"""An association as the judging of a series sees it."""

from dataclasses import dataclass
from typing import Literal

Ending = Literal["open", "released", "aborted", "lost"]

# An open association that has sent so many instances of other series since is done with this one.
PASSED_ON_AFTER = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationFact:
    """One association that sent at least one instance of the series.

    ``lost``: the receiver's process died while it was open.
    """

    association_id: str
    calling_ae_title: str
    ending: Ending
    # When its first instance of the series was stored.
    opened_at: float
    ended_at: float | None
    # Instances of other series that it has sent since the last one of this series.
    sent_elsewhere: int = 0

    @property
    def is_done(self) -> bool:
        """Tell whether it was released, or has passed on to other series."""
        return self.ending == "released" or (self.ending == "open" and self.sent_elsewhere >= PASSED_ON_AFTER)

    @property
    def is_pending(self) -> bool:
        """Tell whether it is open and may send more of this series."""
        return self.ending == "open" and not self.is_done

    @property
    def is_broken(self) -> bool:
        """Tell whether it ended without a release."""
        return self.ending in ("aborted", "lost")

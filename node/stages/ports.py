"""What the stages need of the world, as small protocols. Adapters satisfy them without importing them."""

from typing import Protocol

from node.domain.arrival import Arrival, InstanceIdentity, StoredInstance

# --- receive ---


class Inbox(Protocol):
    """Where received instances become durable."""

    def has_room_for(self, byte_count: int) -> bool:
        """Tell whether that many bytes can be stored and the free disk stays above the minimum."""
        ...

    def store(self, arrival: Arrival, identity: InstanceIdentity) -> StoredInstance:
        """Make an instance durable: on return it survives a power cut.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...

    def keep_rejected(self, arrival: Arrival, reason: str) -> None:
        """Keep a refused data set beside the reason, for a person to look at.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...

"""How many instances a series has, where somebody states it: the images themselves, or an archive that was asked.

Images in Acquisition (0020,1002) counts one acquisition, so each is compared for itself. It is often wrong: derived
images keep the number of what they were derived from.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from node.domain.evidence import CompletionPolicy, SeriesFacts
from node.domain.instance import ReceivedInstance

# An archive is given so long to answer when it is asked again.
ARCHIVE_ANSWERS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A number that the images state, and how many of them are here."""

    here: int
    stated: int
    says: str
    # Of one acquisition, of which a series may have several.
    of_acquisition: bool = False

    def __str__(self) -> str:
        """Give it as words: '42 of 60 images, says Images in Acquisition'."""
        return f"{self.here} of {self.stated} images, says {self.says}"


def stated_in(instances: Iterable[ReceivedInstance]) -> tuple[Stated, ...]:
    """Compare what the images state with how many there are, each acquisition for itself."""
    instances = tuple(instances)
    series = [one.series_related_instances for one in instances if one.series_related_instances]
    stated = []
    if series:
        here = len({one.sop_instance_uid for one in instances})
        stated.append(Stated(here=here, stated=max(series), says="Number of Series Related Instances in the images"))
    acquisitions: dict[str, list[ReceivedInstance]] = {}
    for one in instances:
        if one.images_in_acquisition:
            acquisitions.setdefault(one.acquisition_number, []).append(one)
    for number, images in sorted(acquisitions.items()):
        here = len({one.sop_instance_uid for one in images})
        largest = max(one.images_in_acquisition or 0 for one in images)
        which = f" of acquisition {number}" if len(acquisitions) > 1 else ""
        stated.append(Stated(here=here, stated=largest, says=f"Images in Acquisition{which}", of_acquisition=True))
    return tuple(stated)


def is_every_image_counted(instances: Iterable[ReceivedInstance]) -> bool:
    """Tell whether every image states the number of its acquisition."""
    return all(one.images_in_acquisition for one in instances if one.planes)


def why_number_lacks(instances: Iterable[ReceivedInstance]) -> str:
    """Say which Instance Number up to the highest is not there; empty where none lacks, or none is known.

    Numbers begin at 1, or at 0 or below.
    """
    numbers = {one.instance_number for one in instances} - {None}
    present = sorted(number for number in numbers if number is not None)
    if not present:
        return ""
    lacking = present[-1] - min(present[0], 1) + 1 - len(present)
    if not lacking:
        return ""
    expected = min(present[0], 1)
    for number in present:
        if number != expected:
            break
        expected += 1
    return f"instance number {expected} is not there" + (f", nor are {lacking - 1} more" if lacking > 1 else "")


# The archive


def archive_has_more(facts: SeriesFacts) -> bool:
    """Tell whether the archive's latest answer names more instances than are here."""
    return facts.archive is not None and (facts.archive.count or 0) > facts.instance_count


def archive_agrees(facts: SeriesFacts, policy: CompletionPolicy) -> bool:
    """Tell whether all are here that the archive has.

    An archive that forwards what it receives at that moment always has as many as are here. So its number counts where
    it knew of more than were here when it was asked, or where it was asked after a silence.
    """
    answer = facts.archive
    if answer is None or answer.count != facts.instance_count:
        return False
    return answer.had < answer.count or answer.asked_at >= facts.last_instance_at + policy.settle_s


def ask_archive_at(facts: SeriesFacts, policy: CompletionPolicy) -> float | None:
    """Say from when on the archive is to be asked (again); None: it need not be.

    At once; after `settle_s` of silence where it had no more than was here; and after the quiet period where it had
    more, or gave no answer.
    """
    if not facts.asks_archive or not facts.instances:
        return None
    answer = facts.archive
    if answer is None:
        return min(instance.received_at for instance in facts.instances)
    missed = answer.count is None or answer.count > facts.instance_count
    again_at = facts.last_instance_at + (policy.quiet_period_s if missed else policy.settle_s)
    if answer.asked_at >= again_at or archive_agrees(facts, policy):
        return None
    return again_at


def archive_words(facts: SeriesFacts) -> str:
    """Say what the archive answered; empty where it was not asked."""
    answer = facts.archive
    if answer is None:
        return ""
    if answer.count is None:
        return f"the archive {answer.archive} could not say how many instances there are: {answer.reason}"
    return f"{facts.instance_count} of {answer.count} instances, says the archive {answer.archive}"

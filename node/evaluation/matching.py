"""Which result belongs to which reference: by the images that both name, never by a patient's name.

Two DICOM objects belong together that name a series, or images, in common; where neither pair of a reference does, by
their Frame of Reference. Label maps, and these with DICOM, belong together by the names of their files. A reference for
which several results are left is given none.
"""

from collections.abc import Callable, Sequence

from node.evaluation.report import Unmatched
from node.evaluation.sources import Source

# Of several objects of one series the structure set counts: it is what stands in the planning system.
_PREFERRED = ("RTSTRUCT", "SEG", "NIFTI")

Matched = list[tuple[Source, Source]]


def matched(references: Sequence[Source], results: Sequence[Source]) -> tuple[Matched, list[Unmatched]]:
    """Give the pairs, and what has no counterpart, with the reason."""
    if len(references) == len(results) == 1:
        # A person named the two.
        return [(references[0], results[0])], []
    pairs: Matched = []
    unmatched: list[Unmatched] = []
    used: set[int] = set()
    for reference in references:
        candidates = _candidates(reference, results)
        chosen = _preferred(candidates)
        used |= {id(each) for each in candidates}
        if len(chosen) == 1:
            pairs.append((reference, chosen[0]))
            continue
        why = f"{len(chosen)} results are of its images: {', '.join(each.name for each in chosen)}"
        reason = why if chosen else "no result is of its images"
        unmatched.append(Unmatched(what="reference", name=reference.name, reason=reason))
    unmatched += [
        Unmatched(what="result", name=each.name, reason="no reference is of its images")
        for each in results
        if id(each) not in used
    ]
    return _without_rivals(pairs, unmatched)


def are_of_different_images(reference: Source, result: Source) -> bool:
    """Tell whether two DICOM objects state that they have no Frame of Reference, and no image, in common."""
    if reference.facts is None or result.facts is None or _share_images(reference, result):
        return False
    return not _share_frame(reference, result)


def _candidates(reference: Source, results: Sequence[Source]) -> list[Source]:
    for belongs in (_share_images, _share_frame, _share_name):
        found = [each for each in results if belongs(reference, each)]
        if found:
            return found
    return []


def _share_images(reference: Source, result: Source) -> bool:
    one, other = reference.facts, result.facts
    if one is None or other is None:
        return False
    return bool(one.series.keys() & other.series.keys()) or bool(one.drawn_on & other.drawn_on)


def _share_frame(reference: Source, result: Source) -> bool:
    one, other = reference.facts, result.facts
    return one is not None and other is not None and bool(one.frames_of_reference & other.frames_of_reference)


def _share_name(reference: Source, result: Source) -> bool:
    is_dicom = reference.facts is not None and result.facts is not None
    return not is_dicom and reference.name == result.name


def _preferred(candidates: Sequence[Source]) -> list[Source]:
    for kind in _PREFERRED:
        found = [each for each in candidates if each.kind == kind]
        if found:
            return found
    return []


def _without_rivals(pairs: Matched, unmatched: list[Unmatched]) -> tuple[Matched, list[Unmatched]]:
    """Take of several references for one result the preferred kind, and none where that leaves several."""
    kept: Matched = []
    key: Callable[[Source], int] = id
    for result in {key(result): result for _, result in pairs}.values():
        rivals = [reference for reference, other in pairs if other is result]
        chosen = _preferred(rivals)
        if len(chosen) == 1:
            kept.append((chosen[0], result))
        for each in rivals:
            if len(chosen) > 1 or each is not chosen[0]:
                reason = f"{result.name} is the result of {len(rivals)} references, of which one can count"
                unmatched.append(Unmatched(what="reference", name=each.name, reason=reason))
    return kept, unmatched

"""Coordinates are read as Python reads them, and what it would read too generously is refused."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.dicom.contour_reading import decimal_numbers
from node.domain.errors import VerificationError

FIXED_POINT = re.compile(rb"-?[0-9]+(\.[0-9]+)?")

numbers = st.from_regex(r"-?[0-9]{1,15}(\.[0-9]{1,14})?", fullmatch=True).map(
    lambda text: text[:16].rstrip(".").encode()
)
anything = st.lists(st.sampled_from(list(b"0123456789.-+eE :/\xb0\xff\0")), max_size=16).map(bytes)


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=9))
def test_each_number_is_the_nearest_that_there_is(texts: list[bytes]) -> None:
    values, ends = decimal_numbers(b"\\".join(texts), "Kidney")

    assert values.tolist() == [float(text) for text in texts]
    assert ends.tolist() == [len(b"\\".join(texts[: count + 1])) + 1 for count in range(len(texts))]


@settings(deadline=None, max_examples=500)
@given(anything, st.lists(numbers, max_size=2), st.lists(numbers, max_size=2))
def test_nothing_but_fixed_point_is_a_number(text: bytes, before: list[bytes], behind: list[bytes]) -> None:
    together = b"\\".join([*before, text, *behind])

    if FIXED_POINT.fullmatch(text):
        values, _ = decimal_numbers(together, "Kidney")
        assert values[len(before)] == float(text)
    else:
        with pytest.raises(VerificationError, match="a coordinate that is no number"):
            decimal_numbers(together, "Kidney")


def test_a_number_of_17_bytes_is_too_long() -> None:
    with pytest.raises(VerificationError, match="longer than 16 bytes"):
        decimal_numbers(b"1\\-123456789.123456\\2", "Kidney")

"""Routing: the first route whose conditions all hold, and why the others do not."""

from collections.abc import Mapping

import pytest

from node.domain.routing import Accepted, Declined, Route, check, decide

HEAD_CT = {"Modality": "CT", "BodyPartExamined": "HEAD", "SeriesDescription": "Head [5mm] C+", "ImageType": "A\\B\\C"}


def route(
    name: str = "head",
    when: Mapping[str, tuple[str, ...]] | None = None,
    unless: Mapping[str, tuple[str, ...]] | None = None,
) -> Route:
    return Route(
        name=name, when=when or {}, unless=unless or {}, models=("m",), outputs=("rtstruct",), destinations=("pacs",)
    )


def test_the_first_matching_route_wins() -> None:
    routes = [
        route("mr", when={"Modality": ("MR",)}),
        route("ct", when={"Modality": ("CT",)}),
        route("everything"),
    ]

    decision = decide(routes, HEAD_CT)

    assert isinstance(decision, Accepted)
    assert decision.route.name == "ct"
    assert [one.matches for one in decision.checks] == [False, True, True]


def test_a_route_without_conditions_takes_everything() -> None:
    assert check(route(), {}).matches


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("CT", "CT", True),
        ("ct", "CT", True),
        ("C", "CT", False),
        ("T", "CT", False),
        ("?T", "PT", True),
        ("?", "CT", False),
        ("*neck*", "Head and NECK", True),
        ("*", "anything", True),
        ("Head [5mm]*", "Head [5mm] C+", True),
        ("Head [5m]*", "Head [5mm] C+", False),
        ("ORIGINAL\\*", "ORIGINAL\\PRIMARY\\AXIAL", True),
        ("5.0", "5x0", False),
        ("*Größe", "GRÖSSE Größe", True),
    ],
)
def test_a_pattern_matches_the_whole_value_without_regard_to_case(pattern: str, value: str, expected: bool) -> None:
    found = check(route(when={"SeriesDescription": (pattern,)}), {"SeriesDescription": value})

    assert found.matches is expected


def test_any_pattern_of_a_keyword_suffices_and_every_keyword_must_hold() -> None:
    wanted = route(when={"Modality": ("MR", "CT"), "BodyPartExamined": ("HEAD",)})

    assert check(wanted, HEAD_CT).matches
    assert check(wanted, {**HEAD_CT, "BodyPartExamined": "CHEST"}).reasons == (
        "BodyPartExamined is 'CHEST', the route wants 'HEAD'",
    )


def test_every_failed_condition_is_named() -> None:
    wanted = route(
        when={"Modality": ("CT", "PT"), "PatientPosition": ("HFS",)}, unless={"SeriesDescription": ("*topo*",)}
    )

    reasons = check(wanted, {"Modality": "MR", "SeriesDescription": "Topogram"}).reasons

    assert reasons == (
        "Modality is 'MR', the route wants 'CT' or 'PT'",
        "PatientPosition is absent, the route wants 'HFS'",
        "SeriesDescription is 'Topogram', the route excludes '*topo*'",
    )


def test_an_absent_value_matches_not_even_a_star_and_excludes_nothing() -> None:
    assert not check(route(when={"BodyPartExamined": ("*",)}), {}).matches
    assert not check(route(when={"BodyPartExamined": ("*",)}), {"BodyPartExamined": ""}).matches
    assert check(route(unless={"BodyPartExamined": ("*",)}), {}).matches


def test_a_declined_series_says_why_for_each_route() -> None:
    decision = decide([route("a", when={"Modality": ("MR",)}), route("b", unless={"Modality": ("CT",)})], HEAD_CT)

    assert isinstance(decision, Declined)
    assert decision.reason == (
        "No route takes the series: route 'a': Modality is 'CT', the route wants 'MR'; "
        "route 'b': Modality is 'CT', the route excludes 'CT'."
    )
    assert len(decision.checks) == 2


def test_without_routes_nothing_is_accepted() -> None:
    assert decide([], HEAD_CT) == Declined(reason="No route is configured.", checks=())

"""Routing: the first route whose conditions all hold, and why the others do not."""

from collections.abc import Mapping

import pytest

from node.domain.errors import SetupError
from node.domain.routing import Accepted, Declined, Route, RouteChannel, check, decide, refuse_other_channels

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


BRAIN = Route(
    name="brain",
    when={"Modality": ("MR",)},
    unless={},
    models=("brain",),
    outputs=("rtstruct",),
    destinations=("pacs",),
    channels=(
        RouteChannel(
            name="T1", when={"SeriesDescription": ("*t1*",)}, unless={"SeriesDescription": ("*scout*", "*t1*km*")}
        ),
        RouteChannel(name="T2", when={"SeriesDescription": ("*t2*",)}, unless={}),
    ),
)


@pytest.mark.parametrize(("description", "channel"), [("Brain T1 mprage", "T1"), ("t2 tse", "T2")])
def test_a_route_with_channels_says_which_a_series_is(description: str, channel: str) -> None:
    decision = decide([BRAIN], {"Modality": "MR", "SeriesDescription": description})

    assert isinstance(decision, Accepted)
    assert decision.channel == channel


def test_a_route_without_channels_names_none() -> None:
    decision = decide([route()], HEAD_CT)

    assert isinstance(decision, Accepted)
    assert decision.channel == ""


def test_a_series_that_is_none_of_the_channels_is_not_taken_and_each_says_why() -> None:
    decision = decide([BRAIN], {"Modality": "MR", "SeriesDescription": "t1 km"})

    assert isinstance(decision, Declined)
    assert not decision.ambiguous
    assert decision.checks[0].reasons == (
        "not T1: SeriesDescription is 't1 km', the channel excludes '*t1*km*'",
        "not T2: SeriesDescription is 't1 km', the channel wants '*t2*'",
    )


def test_the_conditions_of_the_route_hold_for_every_channel() -> None:
    reasons = check(BRAIN, {"Modality": "CT", "SeriesDescription": "t1"}).reasons

    assert reasons == ("Modality is 'CT', the route wants 'MR'",)


def test_a_series_that_is_two_channels_is_declined_though_another_route_would_take_it() -> None:
    decision = decide([BRAIN, route("everything")], {"Modality": "MR", "SeriesDescription": "t1 and t2"})

    assert isinstance(decision, Declined)
    assert decision.ambiguous
    assert decision.reason == (
        "Route 'brain' would take the series as T1 and as T2: its rules must tell them apart ('unless')."
    )


def test_an_earlier_route_takes_what_would_be_two_channels_of_a_later_one() -> None:
    decision = decide([route("everything"), BRAIN], {"Modality": "MR", "SeriesDescription": "t1 and t2"})

    assert isinstance(decision, Accepted)
    assert (decision.route.name, decision.channel) == ("everything", "")


def test_a_model_of_several_images_needs_a_channel_for_each_and_is_told_what_to_write() -> None:
    with pytest.raises(SetupError) as raised:
        refuse_other_channels(route("head"), "brain", ("T1", "T2"))

    assert raised.value.reason == (
        "The model brain takes 2 images of one place (T1, T2); route 'head' does not say which series is which: it has "
        "no channels."
    )
    assert raised.value.remedy.startswith(
        'Write 2 [[routes.channels]] under the route, in this order: name = "T1" and name = "T2", each with'
    )


@pytest.mark.parametrize("wanted", [("T2", "T1"), ("T1", "T2", "FLAIR"), ("T1", "FLAIR")])
def test_channels_in_another_order_or_number_or_of_other_names_are_refused(wanted: tuple[str, ...]) -> None:
    with pytest.raises(SetupError, match="its channels are T1, T2"):
        refuse_other_channels(BRAIN, "brain", wanted)


def test_channels_as_the_model_has_them_are_right_and_one_image_needs_none() -> None:
    refuse_other_channels(BRAIN, "brain", ("T1", "T2"))
    refuse_other_channels(route(), "liver", ("CT",))


def test_a_model_of_one_image_is_refused_on_a_route_with_channels() -> None:
    with pytest.raises(SetupError, match="takes one image; route 'brain' has 2 channels"):
        refuse_other_channels(BRAIN, "liver", ("CT",))

"""Files of a study and a model that takes two images: which series is which, and why nothing is contoured otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.adapters.profile_store import load_profile
from node.commands import channels_of
from node.domain.errors import SetupError
from node.domain.forms import Form
from node.domain.routing import RouteChannel
from node.domain.series import CompletionPolicy
from node.inference.predictor import no_progress
from node.offline import Order, SeriesResult, contour_files
from node.resources import shipped
from node.stages.contour import OpenModel
from tests import two_images
from tests.acceptance.test_kill import phantom
from tests.builders import save_series, uid
from tests.two_images import NAME, series

RULES = ("T1:SeriesDescription=*t1*", "T2:SeriesDescription=*t2*")
TAKES = f"The model {NAME} takes T1 and T2"


class Study:
    """A folder of series and one for results."""

    def __init__(self, folder: Path) -> None:
        two_images.install(folder / "models")
        self.store = ModelStore([folder / "models", shipped("models")])
        self.given = folder / "in"
        self.output = folder / "out"
        self.output.mkdir()

    def add(self, datasets: list[Dataset]) -> str:
        save_series(datasets, self.given)
        return str(datasets[0].SeriesInstanceUID)

    def contour(self, *rules: str, models: tuple[str, ...] = (NAME,)) -> dict[str, SeriesResult]:
        """Give what became of each series, by its UID."""
        opened = [
            OpenModel(package=one.package, predictor=open_predictor(one, "cpu", threads=1))
            for one in map(self.store.load, models)
        ]
        order = Order(
            output=self.output,
            outputs=("rtstruct",),
            form=Form(profile=load_profile("generic")),
            progress=lambda _: no_progress,
        )
        made = contour_files([self.given], order, models=opened, channels=channels_of(rules), policy=CompletionPolicy())
        assert len({one.series_uid for one in made.series}) == len(made.series)
        return {one.series_uid: one for one in made.series}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def changed(datasets: list[Dataset], change: Callable[[Dataset], None]) -> list[Dataset]:
    for dataset in datasets:
        change(dataset)
    return datasets


def of_another_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = uid("another", "study")


def in_another_frame(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = uid("another", "frame of reference")


def test_two_series_are_contoured_once_and_the_report_names_both(study: Study) -> None:
    first, other = study.add(series("T1")), study.add(series("T2"))

    found = study.contour(*RULES)

    assert list(found) == [first]
    assert found[first].contoured, found[first].reason
    assert [(one["channel"], one["series_instance_uid"]) for one in found[first].report["channels"]] == [
        ("T1", first),
        ("T2", other),
    ]
    assert len(list(study.output.iterdir())) == 1


def test_two_series_for_one_image_are_never_chosen_between(study: Study) -> None:
    uids = {study.add(series("T1")), study.add(series("T1", "T1 again")), study.add(series("T2"))}

    found = study.contour(*RULES)

    assert set(found) == uids
    assert {one.contoured for one in found.values()} == {False}
    assert all("2 images of one place fit T1: series " in one.reason for one in found.values())


def test_a_rule_that_excludes_tells_two_apart(study: Study) -> None:
    wanted = study.add(series("T1"))

    def name_again(dataset: Dataset) -> None:
        dataset.SeriesDescription = "abdomen t1 again"

    again = study.add(changed(series("T1", "T1 again"), name_again))
    study.add(series("T2"))

    found = study.contour(*RULES, "T1:SeriesDescription!=*again*")

    assert found[wanted].contoured
    assert found[again].reason.startswith(f"{TAKES}; not T1: SeriesDescription is 'abdomen t1 again', the channel excl")


def test_a_series_that_would_be_both_images_is_declined(study: Study) -> None:
    first = study.add(series("T1"))

    found = study.contour("T1:SeriesDescription=*t1*", "T2:Modality=MR")

    assert "would take the series as T1 and as T2" in found[first].reason


@pytest.mark.parametrize(("change", "why"), [(of_another_study, ""), (in_another_frame, " (series {other} would fit")])
def test_a_series_of_another_study_or_frame_of_reference_is_no_company(
    study: Study, change: Callable[[Dataset], None], why: str
) -> None:
    first, other = study.add(series("T1")), study.add(changed(series("T2"), change))

    found = study.contour(*RULES)

    assert not found[first].contoured
    assert found[first].reason.startswith(f"{TAKES}; no series fits T2" + why.format(other=other))
    assert found[other].reason.startswith(f"{TAKES}; no series fits T1")


def test_series_on_two_grids_are_declined_with_the_figures(study: Study) -> None:
    first = study.add(series("T1"))
    other = study.add(series("T2", spacing_mm=(3.0, 2.5, 1.5)))

    found = study.contour(*RULES)

    # 39 rows further down, by 0.5 mm each.
    said = "voxels lie up to 19.50 mm apart, spacing 3 × 2.5 × 1.5 instead of 3 × 2 × 1.5 mm"
    assert said in found[first].reason
    assert said in found[other].reason


def test_where_two_series_together_cannot_be_contoured_both_are_told_why(study: Study) -> None:
    def of_another_patient(dataset: Dataset) -> None:
        dataset.PatientID = "ANOTHER"

    first = study.add(series("T1"))
    other = study.add(changed(series("T2"), of_another_patient))

    found = study.contour(*RULES)

    assert {each: one.reason for each, one in found.items()} == dict.fromkeys(
        (first, other), f"T2 (series {other}) is of another patient."
    )


def test_a_model_of_one_image_and_one_of_two_each_take_their_own(study: Study) -> None:
    first = study.add(series("T1"))
    study.add(series("T2"))
    ct = phantom("beside", slices=8)
    save_series(ct, study.given)

    results = contour_both(study)

    assert [one.report.get("model") for one in results] == ["body-bones", NAME]
    assert [one.series_uid for one in results] == [str(ct[0].SeriesInstanceUID), first]


def test_a_series_that_no_model_takes_is_told_why_by_each(study: Study) -> None:
    def name_flair(dataset: Dataset) -> None:
        dataset.SeriesDescription = "flair"

    flair = study.add(changed(series("T1"), name_flair))

    (left,) = contour_both(study)

    assert left.series_uid == flair
    assert left.reason == (
        f"no model for this modality; the models are for CT; {TAKES}; not T1: SeriesDescription is 'flair', the "
        "channel wants '*t1*'; not T2: SeriesDescription is 'flair', the channel wants '*t2*'"
    )


def contour_both(study: Study) -> list[SeriesResult]:
    opened = [
        OpenModel(package=one.package, predictor=open_predictor(one, "cpu", threads=1))
        for one in map(study.store.load, ("body-bones", NAME))
    ]
    form = Form(profile=load_profile("generic"))
    order = Order(output=study.output, outputs=("rtstruct",), form=form, progress=lambda _: no_progress)
    rules = channels_of(RULES)
    made = contour_files([study.given], order, models=opened, channels=rules, policy=CompletionPolicy())
    return list(made.series)


def test_rules_are_read_by_name_and_several_for_one_image_hold_together() -> None:
    texts = ("T1 (MPRAGE):Modality=MR", "T1 (MPRAGE):SeriesDescription=*t1*", "T1 (MPRAGE):SeriesDescription=mp:rage=2")

    assert channels_of((*texts, "T2:SeriesDescription!=*scout*")) == (
        RouteChannel(
            name="T1 (MPRAGE)",
            when={"Modality": ("MR",), "SeriesDescription": ("*t1*", "mp:rage=2")},
            unless={},
        ),
        RouteChannel(name="T2", when={}, unless={"SeriesDescription": ("*scout*",)}),
    )


@pytest.mark.parametrize("text", ["T1", "T1=*t1*", "T1:SeriesDescription", ":Modality=MR", "T1:Modality="])
def test_a_rule_of_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SetupError, match="NAME:KEYWORD=PATTERN") as raised:
        channels_of([text])

    assert "--channel 'T1:SeriesDescription=*t1*'" in raised.value.remedy


def test_a_rule_with_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(SetupError, match="unknown keyword SeriesDescripton; do you mean SeriesDescription"):
        channels_of(["T1:SeriesDescripton=*t1*"])


@pytest.mark.parametrize("rules", [(), RULES[:1], ("T1:Modality=MR", "PET:Modality=PT")])
def test_a_model_whose_images_nobody_tells_apart_is_refused_with_what_to_write(
    study: Study, rules: tuple[str, ...]
) -> None:
    study.add(series("T1"))

    with pytest.raises(SetupError, match=rf"{TAKES}; which series is which\?") as raised:
        study.contour(*rules)

    assert "--channel 'T2:SeriesDescription=*t2*'" in raised.value.remedy


@pytest.mark.parametrize(
    ("models", "which"),
    [((NAME,), r"the images of the models are T1, T2\."), (("body-bones",), r"the models take one image each\.")],
)
def test_a_rule_for_an_image_that_no_model_takes_is_refused(study: Study, models: tuple[str, ...], which: str) -> None:
    study.add(series("T1"))

    with pytest.raises(SetupError, match=f"No model takes an image FLAIR; {which}"):
        study.contour(*RULES * (NAME in models), "FLAIR:SeriesDescription=*flair*", models=models)

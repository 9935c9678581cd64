"""Data sets of TotalSegmentator go together as its tasks have them, and bring the network that finds their region."""

from pathlib import Path

import pytest

from node.convert.results_folder import read_trained
from node.convert.sources import Ingredients, Source
from node.convert.tasks import is_resampled, part_of, step_of, takes_all_folds, tasks_in
from node.domain.errors import SetupError
from tests.unit.test_results_folder import OPTIONS, plans, results

WHOLE_BODY = (
    "Dataset291_TotalSegmentator_part1_organs_1559subj",
    "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
    "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
    "Dataset294_TotalSegmentator_part4_muscles_1559subj",
    "Dataset295_TotalSegmentator_part5_ribs_1559subj",
)
COARSE = "Dataset298_TotalSegmentator_total_6mm_1559subj"
VESSELS = "Dataset008_HepaticVessel"


def weights(folder: Path, *names: str) -> list[Path]:
    """Make empty folders of weights; gives those of the data sets."""
    for name in names:
        (folder / name / "nnUNetTrainer__nnUNetPlans__3d_fullres").mkdir(parents=True)
        (folder / name / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "plans.json").touch()
    return [folder / name for name in names]


def datasets(folders: tuple[Path, ...]) -> list[str]:
    return [each.parent.name for each in folders]


def test_the_five_networks_of_the_whole_body_are_one_task_in_their_order(tmp_path: Path) -> None:
    (task,) = tasks_in(weights(tmp_path, *reversed(WHOLE_BODY)))

    assert task.name == "total"
    assert datasets(task.folders) == list(WHOLE_BODY)
    assert [part_of(each) for each in task.folders] == [
        "part1_organs",
        "part2_vertebrae",
        "part3_cardiac",
        "part4_muscles",
        "part5_ribs",
    ]
    assert (task.missing, task.remarks, task.region) == ((), (), None)


def test_other_data_sets_stay_tasks_of_their_own(tmp_path: Path) -> None:
    tasks = tasks_in(weights(tmp_path, *WHOLE_BODY, COARSE))

    assert [(task.name, len(task.folders)) for task in tasks] == [("total", 5), ("", 1)]
    assert datasets(tasks[1].folders) == [COARSE]


def test_a_part_that_is_not_there_is_said(tmp_path: Path) -> None:
    (task,) = tasks_in(weights(tmp_path, *WHOLE_BODY[1:4]))

    assert task.missing == (291, 295)
    assert task.remarks == ("Of the task total the data sets 291, 295 are not there: their structures are missing.",)


def test_a_part_that_is_named_alone_stays_alone(tmp_path: Path) -> None:
    first, *_ = weights(tmp_path, *WHOLE_BODY)

    (task,) = tasks_in([first])

    assert (task.name, task.missing) == ("", ())


def test_the_network_that_finds_the_region_is_taken_from_beside(tmp_path: Path) -> None:
    vessels, _ = weights(tmp_path, VESSELS, COARSE)

    (task,) = tasks_in([vessels])

    assert task.region is not None
    assert (task.region[0].parent.name, task.region[1]) == (COARSE, ("liver",))


def test_without_the_network_that_finds_its_region_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Dataset008_HepaticVessel works in a region that Dataset298 finds") as refused:
        tasks_in(weights(tmp_path, VESSELS))

    assert "copy the folder Dataset298_... beside it" in refused.value.remedy


@pytest.mark.parametrize("name", ["Dataset113_ToothFairy3", "Dataset301_heart_highres_1559subj"])
def test_a_region_that_cannot_be_found_as_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match=name):
        tasks_in(weights(tmp_path, name))


def test_what_is_done_after_the_network_and_not_here_is_said(tmp_path: Path) -> None:
    (task,) = tasks_in(weights(tmp_path, "Dataset299_body_1559subj"))

    assert task.remarks == (
        "After the network TotalSegmentator keeps the largest piece of the trunk and pieces of the limbs from 50 cm³ "
        "on; this package does not.",
    )


def test_steps_folds_and_resampling_are_those_of_the_task(tmp_path: Path) -> None:
    names = (COARSE, VESSELS, "Dataset315_thoraxCT", "Dataset570_ct_liver_segments")
    coarse, vessels, effusion, segments = (next(each.iterdir()) for each in weights(tmp_path, *names))

    assert [step_of(each) for each in (coarse, vessels, effusion, segments)] == [0.8, 0.5, 0.5, 0.5]
    assert [takes_all_folds(each) for each in (coarse, vessels, effusion, segments)] == [False, False, True, False]
    assert [is_resampled(each) for each in (coarse, vessels, effusion, segments)] == [True, False, False, True]


def source(folder: Path, part: str, labels: dict[str, int]) -> Source:
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **labels}}
    return Source(
        trained=read_trained(results(folder / part, plans(), dataset), "3d_fullres", OPTIONS), checkpoints=(), part=part
    )


def test_labels_of_parts_follow_each_other_and_one_name_keeps_those_of_all(tmp_path: Path) -> None:
    organs = source(tmp_path, "organs", {"liver": 1, "lesion": 2})
    bones = source(tmp_path, "bones", {"sacrum": 1, "lesion": 2, "rib": 3})

    made = Ingredients(name="trunk", title="Trunk", described="tests", parts=(organs, bones))

    assert made.tables == ({1: 1, 2: 2}, {1: 3, 2: 4, 3: 5})
    assert made.labels == {"liver": (1,), "lesion": (2, 4), "sacrum": (3,), "rib": (5,)}


def test_of_a_single_network_labels_stay_what_they_are(tmp_path: Path) -> None:
    organs = source(tmp_path, "", {"liver": 1, "lesion": 2})

    made = Ingredients(name="trunk", title="Trunk", described="tests", parts=(organs,))

    assert made.tables == ({1: 1, 2: 2},)
    assert made.labels == {"liver": (1,), "lesion": (2,)}

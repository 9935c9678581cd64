"""A model package that is right passes; each one that is not is refused with its reason."""

import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from node.adapters.model_store import ModelStore
from node.checkup import Finding
from node.inference.golden import golden_file
from node.model_checkup import verify
from tests import two_images
from tests.model_packages import NAME, install, install_parts, install_windowed, labels_of, scan, thresholds


def found_in(folder: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in verify(ModelStore([folder]), NAME, "cpu", 1)}


def refusal(folder: Path) -> Finding:
    """Give the only finding that does not hold, of a package whose network was not run."""
    found = found_in(folder)
    (fault,) = [finding for finding in found.values() if not finding.holds]
    assert "session" not in found
    assert fault.what_to_do
    return fault


def test_a_right_package_passes_everything(tmp_path: Path) -> None:
    install(tmp_path)

    found = found_in(tmp_path)

    assert all(finding.holds and not finding.what_to_do for finding in found.values())
    assert list(found) == [
        "manifest",
        "folder",
        "programs",
        "patients",
        "input",
        "files",
        "graph graph.onnx",
        "session",
        "memory",
        "golden test",
    ]
    assert found["graph graph.onnx"].said == ("opset 18, 2 nodes of 2 operators, all allowed; 6 weights, all finite")
    assert found["golden test"].said.startswith("0 of 1008 voxels have another label than in golden.npz; ")


def test_a_file_that_only_says_that_it_is_a_copy_in_float16_is_refused(tmp_path: Path) -> None:
    package = install(tmp_path)
    copy = thresholds().SerializeToString()
    (package / "copy.onnx").write_bytes(copy)
    with (package / "model.toml").open("a") as manifest:
        manifest.write(
            f'[[graphs]]\nfile = "copy.onnx"\nsha256 = "{hashlib.sha256(copy).hexdigest()}"\nprecision = "f16"\n'
        )

    fault = refusal(tmp_path)

    assert fault.subject == "graph copy.onnx"
    assert "lists with precision f16 holds none, or weights in float32 too" in fault.said


def test_a_package_with_a_window_passes_too(tmp_path: Path) -> None:
    install_windowed(tmp_path, classes=3, spacing_mm=(3.0, 1.5, 1.25))

    assert [finding for finding in found_in(tmp_path).values() if not finding.holds] == []


def test_a_package_of_several_networks_passes_when_each_of_them_does(tmp_path: Path) -> None:
    install_parts(tmp_path)

    found = found_in(tmp_path)

    assert [finding for finding in found.values() if not finding.holds] == []
    assert [subject for subject in found if subject.startswith("graph")] == [
        "graph coarse.onnx",
        "graph graph.onnx",
        "graph liver.onnx",
    ]
    assert found["session"].said.startswith("3 networks fit their manifest; CPUExecutionProvider")
    assert found["golden test"].said.startswith("0 of 1008 voxels have another label than in golden.npz; ")


@pytest.mark.parametrize("file", ["coarse.onnx", "liver.onnx"])
def test_another_hash_of_any_network_is_refused(tmp_path: Path, file: str) -> None:
    path = install_parts(tmp_path) / file
    path.write_bytes(path.read_bytes() + b"\0")

    assert f"{NAME}/{file} has SHA-256" in refusal(tmp_path).said


def test_parts_that_change_places_are_caught_by_the_golden_test(tmp_path: Path) -> None:
    manifest = install_parts(tmp_path) / "model.toml"
    manifest.write_text(manifest.read_text().replace("labels = [0, 2]", "labels = [2, 0]"))

    assert "have another label than in golden.npz" in found_in(tmp_path)["golden test"].said
    assert not found_in(tmp_path)["golden test"].holds


def test_a_network_that_does_not_fit_is_told_by_its_part(tmp_path: Path) -> None:
    manifest = install_parts(tmp_path) / "model.toml"
    other = "labels = [0, 2, 0]\noutput.classes = 4"
    manifest.write_text(manifest.read_text().replace("labels = [0, 2]", other))

    assert found_in(tmp_path)["session"].said.startswith(f"The graph of {NAME}/liver must take one float32 tensor")


def test_a_model_of_two_images_passes_and_its_golden_test_needs_both(tmp_path: Path) -> None:
    two_images.install(tmp_path)

    found = {one.subject: one for one in verify(ModelStore([tmp_path]), two_images.NAME, "cpu", 1)}

    assert [finding for finding in found.values() if not finding.holds] == []
    assert found["input"].said == "2 series of one place (T1, T2), modality MR"
    assert found["golden test"].said.startswith("0 of 12800 voxels have another label")


def test_a_golden_test_of_one_image_is_refused_for_a_model_of_two(tmp_path: Path) -> None:
    two_images.install(tmp_path, golden_channels=1)

    found = {one.subject: one for one in verify(ModelStore([tmp_path]), two_images.NAME, "cpu", 1)}

    assert found["golden test"].said == "golden.npz holds 1 channels, and the model takes 2."


def test_a_model_whose_images_have_one_name_is_refused(tmp_path: Path) -> None:
    manifest = two_images.install(tmp_path) / "model.toml"
    manifest.write_text(manifest.read_text().replace('name = "T2"', 'name = "T1"'))

    found = {one.subject: one for one in verify(ModelStore([tmp_path]), two_images.NAME, "cpu", 1)}

    assert found["input"].said == "The manifest calls several of the images that the model takes T1."
    assert "[[input.channels]]" in found["input"].what_to_do


def test_a_golden_test_of_two_images_is_refused(tmp_path: Path) -> None:
    package = install(tmp_path)
    before = (package / "golden.npz").read_bytes()
    golden = golden_file(np.concatenate([scan(), scan()]), labels_of(scan()))
    (package / "golden.npz").write_bytes(golden)
    stated, right = (hashlib.sha256(each).hexdigest() for each in (before, golden))
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text().replace(stated, right))

    assert found_in(tmp_path)["golden test"].said == "golden.npz holds 2 channels, and the model takes 1."


@pytest.mark.parametrize("file", ["graph.onnx", "golden.npz"])
def test_another_hash_is_refused(tmp_path: Path, file: str) -> None:
    path = install(tmp_path) / file
    path.write_bytes(path.read_bytes() + b"\0")

    fault = refusal(tmp_path)

    assert fault.subject == "files"
    assert f"{NAME}/{file} has SHA-256" in fault.said


@pytest.mark.parametrize("opset", [17, 22])
def test_another_opset_is_refused_with_how_to_export_again(tmp_path: Path, opset: int) -> None:
    install(tmp_path, thresholds(opset=opset))

    fault = refusal(tmp_path)

    assert fault.said == f"The graph of {NAME} has ONNX opset {opset}; 18 to 21 run here."
    assert "opset_version=20" in fault.what_to_do


@pytest.mark.parametrize(("domain", "operator", "named"), [("", "Loop", "Loop"), ("org.own", "Add", "org.own.Add")])
def test_an_operator_that_is_not_allowed_is_refused(tmp_path: Path, domain: str, operator: str, named: str) -> None:
    model = thresholds()
    model.graph.node[1].op_type, model.graph.node[1].domain = operator, domain
    install(tmp_path, model)

    fault = refusal(tmp_path)

    assert fault.subject == "graph graph.onnx"
    assert fault.said.endswith(f"by CUDA alike: {named}.")


def test_a_function_of_the_file_s_own_is_refused(tmp_path: Path) -> None:
    model = thresholds()
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(
        helper.make_function("own", "Add", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets)
    )
    install(tmp_path, model)

    assert "the function Add" in refusal(tmp_path).said


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("../../secret.bin", "outside the model package: ../../secret.bin"),
        ("/etc/passwd", "outside the model package: /etc/passwd"),
        ("weights.bin", "which no SHA-256 covers: weights.bin"),
    ],
)
@pytest.mark.parametrize("in_attribute", [False, True])
def test_weights_in_another_file_are_refused(tmp_path: Path, place: str, reason: str, in_attribute: bool) -> None:
    model = thresholds()
    tensor = model.graph.initializer[0]
    if in_attribute:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["slopes"], value=tensor))
        del model.graph.initializer[0]
        tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    install(tmp_path, model)

    assert refusal(tmp_path).said.endswith(f"keeps weights in another file, {reason}.")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    model = thresholds()
    slopes = numpy_helper.to_array(model.graph.initializer[0]).copy()
    slopes[0, 1] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(slopes, "slopes"))
    install(tmp_path, model)

    assert "weights that are no finite numbers: slopes" in refusal(tmp_path).said


def test_weights_that_only_become_no_numbers_are_caught_by_the_golden_test(tmp_path: Path) -> None:
    model = thresholds()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1, 1, 1), dtype=np.float32), "zero"))
    model.graph.node.insert(0, helper.make_node("Div", ["zero", "zero"], ["not_a_number"]))
    model.graph.node[1].input[1] = "not_a_number"
    install(tmp_path, model)

    found = found_in(tmp_path)

    assert found["graph graph.onnx"].holds
    assert not found["golden test"].holds
    assert "answered with a value that is no finite number" in found["golden test"].said


def test_other_labels_than_expected_fail_with_their_number(tmp_path: Path) -> None:
    labels = labels_of(scan())
    labels[0, 0, :5] = 2
    install(tmp_path, labels=labels)

    fault = found_in(tmp_path)["golden test"]

    # The liver's box is 3 × 3 × 4 voxels.
    assert fault.said == (
        "5 of 1008 voxels have another label than in golden.npz; 0 may. Voxels found and expected: label 0 576 and "
        "571; label 2 36 and 41."
    )


def test_as_many_other_labels_as_the_manifest_states_pass(tmp_path: Path) -> None:
    labels = labels_of(scan())
    labels[0, 0, :5] = 2
    install(tmp_path, labels=labels, replacing=("[golden]", "[golden]\ndiffering_voxels = 5"))

    assert found_in(tmp_path)["golden test"].holds


def test_a_label_that_the_network_does_not_know_is_refused(tmp_path: Path) -> None:
    install(tmp_path, replacing=("label_values = [2]", "label_values = [3]"))

    fault = refusal(tmp_path)

    assert fault.subject == "manifest"
    assert "structures.Liver.label_values must be among the label values [1, 2], not [3]" in fault.said


def test_a_package_without_structures_is_refused(tmp_path: Path) -> None:
    manifest = install(tmp_path) / "model.toml"
    text = manifest.read_text()
    manifest.write_text(text[: text.index("[[structures]]")] + text[text.index("[golden]") :])

    assert refusal(tmp_path).said == "The manifest names no structure: nothing would be contoured."


def test_a_network_of_fewer_classes_than_stated_is_refused(tmp_path: Path) -> None:
    install(tmp_path, thresholds(classes=3), replacing=("classes = 3", "classes = 4"))

    fault = found_in(tmp_path)["session"]

    assert not fault.holds
    assert "give one with 4 classes" in fault.said


def test_a_network_too_large_for_the_memory_is_refused_with_the_figures(tmp_path: Path) -> None:
    # 60,000 scores of 4 bytes for 16 slices of 1597 × 1597 voxels.
    install_windowed(tmp_path, classes=60_000, spacing_mm=(0.25, 0.25, 0.25))

    fault = found_in(tmp_path)["memory"]

    assert not fault.holds
    assert "GB of memory are needed for 60000 classes on 1800 × 1597 × 1597 voxels" in fault.said
    assert "GB free" in fault.said


@pytest.mark.parametrize("name", ["fold_0.pth", "plans.pkl", "no-suffix"])
def test_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    (install(tmp_path) / name).write_bytes(pickle.dumps({"weights": [1.0]}))

    fault = refusal(tmp_path)

    assert fault.subject == "programs"
    assert name in fault.said


def test_a_zip_with_a_pickle_is_refused_whatever_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(install(tmp_path) / "weights.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1.0]))

    assert "Pickled Python objects" in refusal(tmp_path).said


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(install(tmp_path) / "statistics.npz", means=np.array([{}], dtype=object))

    assert "Pickled Python objects" in refusal(tmp_path).said


def test_an_archive_is_refused_unopened(tmp_path: Path) -> None:
    with zipfile.ZipFile(install(tmp_path) / "more.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")

    assert refusal(tmp_path).said == "Archives, into which this check does not look: more.zip."


def test_a_dicom_file_is_refused(tmp_path: Path) -> None:
    (install(tmp_path) / "slice-1").write_bytes(bytes(128) + b"DICM\x02\x00\x00\x00UL")

    fault = refusal(tmp_path)

    assert fault.subject == "patients"
    assert fault.said == "DICOM: slice-1."


@pytest.mark.parametrize("begin", [b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b"\x08\x00\x16\x00\x1a\x00\x00\x001.2.840"])
def test_a_data_set_without_a_header_is_dicom_too(tmp_path: Path, begin: bytes) -> None:
    (install(tmp_path) / "slice-1").write_bytes(begin)

    assert refusal(tmp_path).said == "DICOM: slice-1."


def test_a_nifti_file_with_a_text_in_its_header_is_refused_and_the_text_not_said(tmp_path: Path) -> None:
    header = bytearray(352)
    header[:4], header[344:348], header[148:160] = (348).to_bytes(4, "little"), b"n+1\0", b"Somebody^Own"
    (install(tmp_path) / "case.nii").write_bytes(header)

    fault = refusal(tmp_path)

    assert fault.said == "NIfTI with texts or an extension in its header: case.nii."


def test_a_table_with_keys_of_patients_is_refused(tmp_path: Path) -> None:
    (install(tmp_path) / "cases.json").write_text('{"PatientID": "4711"}')

    fault = refusal(tmp_path)

    assert fault.said.endswith("cases.json.")
    assert "4711" not in fault.said


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not of the package")
    (install(tmp_path / "models") / "notes.md").symlink_to(tmp_path / "elsewhere")

    fault = refusal(tmp_path / "models")

    assert fault.subject == "folder"
    assert fault.said == "Links lead out of the model package: notes.md."


def test_a_file_that_nothing_names_is_noted(tmp_path: Path) -> None:
    (install(tmp_path) / "plans.json").write_text("{}")

    found = found_in(tmp_path)["unused files"]

    assert found.holds
    assert found.said == "the manifest names no plans.json"
    assert found.what_to_do


def test_a_package_without_a_golden_test_is_noted(tmp_path: Path) -> None:
    package = install(tmp_path)
    text = (package / "model.toml").read_text()
    (package / "model.toml").write_text(text[: text.index("[golden]")])
    (package / "golden.npz").unlink()

    found = found_in(tmp_path)["golden test"]

    assert found.holds
    assert found.what_to_do

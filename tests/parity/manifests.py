"""What a manifest says of a case, for those who run its network without importing its results folder."""

from typing import Any

from node.inference.network_tables import Channel, Output, Scheme, Window, WindowedInput
from tests.parity.cases import Case

_SCHEMES: dict[str, Scheme] = {"ZScoreNormalization": "z_score", "RescaleTo01Normalization": "range_0_1"}


def input_of(one: Case, plans: dict[str, Any]) -> WindowedInput:
    """Say of a case's plans what a manifest says."""
    intensities = plans["foreground_intensity_properties_per_channel"]
    return WindowedInput(
        orientation="native",
        axis_order=one.transpose_forward,
        spacing_mm=one.plan_spacing_mm,
        channels=tuple(_channel(one, number, intensities[str(number)]) for number in range(len(one.channels))),
        window=Window(patch=one.patch_size, step=one.tile_step_size, mirror_axes=one.mirroring_axes or ()),
    )


def output_of(one: Case) -> Output:
    """Say of a case what its network's scores mean."""
    if one.regions_class_order is None:
        return Output(classes=len(one.labels))
    return Output(classes=len(one.regions_class_order), activation="regions", region_values=one.regions_class_order)


def _channel(one: Case, number: int, intensities: dict[str, float]) -> Channel:
    scheme = one.normalization_schemes[number]
    if scheme == "CTNormalization":
        return Channel(
            name=one.channels[number],
            normalisation="fixed",
            clip=(intensities["percentile_00_5"], intensities["percentile_99_5"]),
            mean=intensities["mean"],
            standard_deviation=intensities["std"],
        )
    return Channel(name=one.channels[number], normalisation=_SCHEMES[scheme], masked=one.use_mask_for_norm)

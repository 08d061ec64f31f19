"""Why nothing runs, in a line that fits a table: the condition that tells most, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dicom_node.model import own_codes
from dicom_node.model.codes import Code
from dicom_node.model.decisions import Group, RouteDecision, Verdict
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.pipeline import InputSelector
from dicom_node.model.targets import Rejection
from dicom_node.routing.elements import number_of

_MOST_TELLING: Final = ("modality", "body_part")
"""Where one of these fails, what else fails is no news."""
_MOST_REASONS: Final = 4
SEPARATOR: Final = " | "
"""Between the routes of a reason, for those that show each on a line of its own."""
_NAMES: Final = {
    "body_part": "body part",
    "sop_class": "SOP class",
    "slice_thickness_mm": "slice thickness (mm)",
    "image_type": "image type",
    "not_image_type": "image type",
}


def unrouted_reason(decided: Sequence[RouteDecision]) -> str:
    """Say why no route wants a study: for each route what is wrong with the image nearest to it.

    Routes that fail alike share an entry. Where there are many, the nearest to a match are told.
    """
    if not decided:
        return "node.yaml has no routes"
    groups = [group for route in decided for group in route.groups]
    if not groups:
        return "the study has no images"
    excluded = dict.fromkeys(group.excluded for group in groups)
    if "" not in excluded:
        return SEPARATOR.join(excluded)
    failing: dict[str, list[str]] = {}
    distance: dict[str, tuple[int, int]] = {}
    for route in decided:
        failed = _failed(_nearest(route.groups))
        told = _told(_first(failed))
        failing.setdefault(told, []).append(f"“{route.route}”")
        distance[told] = min(distance.get(told, _distance(failed)), _distance(failed))
    nearest = sorted(failing, key=distance.__getitem__)[:_MOST_REASONS]
    lines = [f"{', '.join(failing[told])}: {told}" for told in failing if told in nearest]
    left = sum(len(routes) for told, routes in failing.items() if told not in nearest)
    if left:
        lines.append(f"and {left} more route{'' if left == 1 else 's'}")
    return SEPARATOR.join(lines)


def selector_rejection(groups: Sequence[Group], wanted: InputSelector) -> Rejection:
    """Say why a pipeline takes none of the images that its routes matched, with a code."""
    matched = [item for group in groups if group.matched for item in group.instances]
    if matched:
        most = max(series_sizes(matched).values())
        text = f"the largest series has {most} suitable images, {wanted.min_instances} are needed"
        return Rejection(own_codes.TOO_FEW_SLICES, text)
    verdict = _first(_failed(_nearest(groups)))
    return Rejection(_code(verdict, wanted), f"no image is suitable: {_told(verdict)}")


def series_sizes(items: Iterable[InstanceFacts]) -> Mapping[str, int]:
    """Count the images of each series, every frame of a multi-frame instance as one."""
    sizes: dict[str, int] = {}
    for item in items:
        frames = item.attributes.get("NumberOfFrames", 1)
        number = frames if isinstance(frames, int) else 1
        sizes[item.series_instance_uid] = sizes.get(item.series_instance_uid, 0) + number
    return sizes


def _nearest(groups: Sequence[Group]) -> Group:
    """Return the images that come nearest to a match; of those that do, the most alike."""
    judged = [group for group in groups if not group.excluded]
    return min(judged, key=lambda group: (_distance(_failed(group)), -len(group.instances)))


def _distance(failed: Sequence[Verdict]) -> tuple[int, int]:
    """Say how far from a match: another modality is further than another view."""
    conditions = {verdict.condition for verdict in failed}
    telling = (n for n, name in enumerate(reversed(_MOST_TELLING), 1) if name in conditions)
    return max(telling, default=0), len(failed)


def _failed(group: Group) -> list[Verdict]:
    return [verdict for verdict in group.verdicts if not verdict.holds]


def _first(failed: Sequence[Verdict]) -> Verdict:
    by_condition = {verdict.condition: verdict for verdict in failed}
    return next((by_condition[c] for c in _MOST_TELLING if c in by_condition), failed[0])


def _told(verdict: Verdict) -> str:
    name = _NAMES.get(verdict.condition, verdict.condition.removeprefix("attributes."))
    wanted = f"not {verdict.wanted}" if verdict.condition == "not_image_type" else verdict.wanted
    if verdict.condition == "contrast":
        wanted = "given" if wanted == "true" else "none"
    return f"{name} is {verdict.seen or 'not given'}, wanted {wanted}"


def _code(verdict: Verdict, wanted: InputSelector) -> Code:
    match verdict.condition:
        case "body_part":
            return own_codes.WRONG_BODY_PART
        case "view":
            return own_codes.WRONG_VIEW
        case "contrast" if wanted.when.contrast is False:
            return own_codes.CONTRAST_GIVEN
        case "laterality" if not verdict.seen:
            return own_codes.SIDE_UNKNOWN
        case "slice_thickness_mm" if _is_above(verdict, wanted):
            return own_codes.THICK_SLICES
    return own_codes.NO_SUITABLE_IMAGE


def _is_above(verdict: Verdict, wanted: InputSelector) -> bool:
    thickness = wanted.when.slice_thickness_mm
    seen = number_of(verdict.seen)
    most = None if thickness is None else thickness.max
    return seen is not None and most is not None and seen > most

"""The side that an image states of itself, and the sides of what it shows of both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from dicom_node.model.findings import Side

SIDE_CODES: Final[Mapping[str, str]] = {
    "24028007": "R",
    "G-A100": "R",
    "7771000": "L",
    "G-A101": "L",
    "51440002": "B",
    "G-A102": "B",
}
"""Right, left, and both of CID 244, in SNOMED CT and in SNOMED RT as older devices write it."""

SIDE_MODIFIERS: Final[Mapping[str, str]] = {
    "AnatomicRegionModifierSequence": "0008,2220",
    "PrimaryAnatomicStructureModifierSequence": "0008,2230",
    "ViewModifierCodeSequence": "0054,0222",
}
"""Where a coded side may stand (`attributes_of` takes them out of what they modify)."""


def stated_side(attributes: Mapping[str, Any]) -> tuple[Side, str]:
    """Return the side by Image Laterality, else Laterality, else a coded one, and where it stood.

    UNKNOWN when none says R or L: "B" (both) and "U" (unpaired) name no side. What the image
    says of itself comes before what its series says.
    """
    value, where = _stated(attributes)
    return (Side(value), where) if value in ("R", "L") else (Side.UNKNOWN, "")


def states_both(attributes: Mapping[str, Any]) -> bool:
    """Tell whether the image says, where `stated_side` looks, that it shows both sides."""
    return _stated(attributes)[0] == "B"


def _stated(attributes: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first word about sides ("R", "L", "B", or nonsense), and where it stood."""
    for keyword, tag in (("ImageLaterality", "0020,0062"), ("Laterality", "0020,0060")):
        if value := str(attributes.get(keyword) or "").strip().upper():
            return value, f"{keyword} ({tag})"
    for keyword, tag in SIDE_MODIFIERS.items():
        if sides := set(_coded_sides(attributes.get(keyword))):
            return sides.pop() if len(sides) == 1 else "B", f"{keyword} ({tag})"
    return "", ""


def _coded_sides(codes: Any) -> Iterator[str]:
    for code in codes if isinstance(codes, list) else ():
        if isinstance(code, Mapping) and (side := SIDE_CODES.get(code.get("value", ""))):
            yield side


def sides_by_position(attributes: Mapping[str, Any], what: str) -> tuple[tuple[Side, Side], str]:
    """Return the sides of what is at the left and at the right of an image of both, and why.

    An image is read as if the patient stood before the reader, unless its Patient Orientation
    (PS3.3 C.7.6.1.1.1, the direction of its rows) says that it is the other way round. UNKNOWN
    where that runs neither to the left nor to the right, and where the image states one side
    alone, which contradicts that it shows both.

    Args:
        what: The kind of image, for the reason ("bilateral image").
    """
    unknown = (Side.UNKNOWN, Side.UNKNOWN)
    stated, where = stated_side(attributes)
    if stated is not Side.UNKNOWN:
        return unknown, f"{where} says {stated}, and the image shows both sides"
    rows = _row_direction(attributes)
    if rows in ("", "L"):
        also = " and PatientOrientation (0020,0020)" if rows else ""
        return (Side.RIGHT, Side.LEFT), f"position in the {what}{also}"
    if rows == "R":
        return (Side.LEFT, Side.RIGHT), f"position in the {what} and PatientOrientation (0020,0020)"
    return unknown, "PatientOrientation (0020,0020) says that it is no frontal view"


def agreed_side(
    attributes: Mapping[str, Any], letters: Collection[str], reader: str
) -> tuple[Side, str]:
    """Return the side of an image of one, by its header and by the letters read in it, and why.

    UNKNOWN where header and letter contradict each other, as where a film was marked or filed
    wrongly: a person has to look. An image whose header says that it shows both gets none by a
    letter, which may belong to the other.

    Args:
        letters: "L" and "R" as they were read beside it; none, or both, say nothing.
        reader: What has read them, with its version.
    """
    side, where = stated_side(attributes)
    # what speaks of sides without naming one says both, unpaired, or nonsense
    if len(letters) != 1 or (side is Side.UNKNOWN and _stated(attributes)[0]):
        return side, where
    (letter,) = letters
    if side is Side.UNKNOWN:
        return Side(letter), _marker(letter, reader)
    if side == letter:
        return side, f"{where} and {_marker(letter, reader)}"
    return Side.UNKNOWN, f"{where} says {side}, but there is {_marker(letter, reader)}"


def agreed_sides(
    attributes: Mapping[str, Any],
    what: str,
    letters: tuple[Collection[str], Collection[str]],
    reader: str,
) -> tuple[tuple[Side, Side], str]:
    """Return what `sides_by_position` does, unless a letter read in the image contradicts it.

    Args:
        letters: Read beside what is at the left and beside what is at the right.
        reader: What has read them, with its version.
    """
    sides, source = sides_by_position(attributes, what)
    if Side.UNKNOWN in sides:
        return sides, source
    told = [(side, letter) for side, own in zip(sides, letters, strict=True) for letter in own]
    for side, letter in told:
        if side != letter:
            why = f"{source} says {side}, but there is {_marker(letter, reader)}"
            return (Side.UNKNOWN, Side.UNKNOWN), why
    also = "".join(f" and {_marker(letter, reader)}" for _, letter in told)
    return sides, source + also


def _marker(letter: str, reader: str) -> str:
    return f"the marker {letter} in the image (read by {reader})"


def is_seen_from_behind(attributes: Mapping[str, Any]) -> bool:
    """Tell whether the patient's right is at the image's right, by Patient Orientation."""
    return _row_direction(attributes) == "R"


def _row_direction(attributes: Mapping[str, Any]) -> str:
    """First letter of the direction in which the image's rows run; "" when it is not stated."""
    value = attributes.get("PatientOrientation")
    first = value[0] if isinstance(value, list) and value else value
    return str(first or "").strip().upper()[:1]

"""The condition language shared by a route's `when` and a pipeline's input selector."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydicom.datadict import keyword_dict, repeater_has_keyword, tag_for_keyword
from pydicom.uid import UID, UID_dictionary

from dicom_node.model.findings import Side
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.instances import is_binary
from dicom_node.model.text import squashed


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


_T = TypeVar("_T")
Listed = Annotated[list[_T], BeforeValidator(_as_list), Field(min_length=1)]
"""One of a kind, or a list of them."""
OneOrMore = Listed[str]


def _keyword(text: str) -> str:
    tag = tag_for_keyword(text)
    if tag is None and not repeater_has_keyword(text):
        near = get_close_matches(text, keyword_dict, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "PS3.6 lists the keywords"
        raise ValueError(f"DICOM has no attribute with the keyword `{text}`; {hint}")
    if tag is not None and tag >> 16 == 0x0002:
        raise ValueError(
            f"`{text}` stands in a file's meta information, which routing does not see"
        )
    if tag is not None and tag >> 16 == 0x0000:
        raise ValueError(f"`{text}` stands in a message's command, which routing does not see")
    if tag is not None and is_binary(tag):
        raise ValueError(f"`{text}` holds binary data, which the index does not keep")
    return text


Keyword = Annotated[str, AfterValidator(_keyword)]
"""The keyword of an attribute in the data set of an instance (PS3.6)."""

_SOP_CLASSES: Final = {
    squashed(name): name
    for name, kind, *_ in UID_dictionary.values()
    if kind == "SOP Class" and name
}
"""Names of PS3.6 annex A, by how names are compared; some retired classes have lost theirs."""


def _sop_class(text: str) -> str:
    if is_valid_uid(text):
        kind = UID(text).type or "SOP Class"  # one that PS3.6 does not list may be a maker's own
        if kind != "SOP Class":
            raise ValueError(f"`{text}` is the UID of a {kind.lower()}, not of a SOP class")
    elif squashed(text) not in _SOP_CLASSES:
        near = get_close_matches(squashed(text), _SOP_CLASSES, n=1)
        hint = f"did you mean `{_SOP_CLASSES[near[0]]}`?" if near else "PS3.6 annex A lists them"
        raise ValueError(f"DICOM has no SOP class of the name `{text}`; {hint}")
    return text


SopClasses = Listed[Annotated[str, AfterValidator(_sop_class)]]
"""SOP classes, each by its UID or its name."""


def values_in(text: str) -> list[str]:
    r"""Return the values of "CR, DX" and "CR\DX": no code string holds those (PS3.5 6.2)."""
    return [part.strip() for part in re.split(r"[,\\]", text)]


def _one_value(text: str) -> str:
    parts = values_in(text)
    if len(parts) > 1:
        listed = ", ".join(part for part in parts if part)
        raise ValueError(f"`{text}` is no single value; several are written as a list: [{listed}]")
    return text


CodeStrings = Listed[Annotated[str, AfterValidator(_one_value)]]
"""Values of an attribute with the VR CS, any of them or all."""


class Strict(BaseModel):
    """Base of everything read from YAML: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
    """A closed range of numbers; either end may be open."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Test(Strict):
    """A test of any element: exactly one of the keys; `matches` is a regular expression."""

    __test__ = False  # not a pytest class

    equals: OneOrMore | None = None
    contains: OneOrMore | None = None
    matches: str | None = None
    range: Range | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Test:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of equals, contains, matches, range, present")
        return self

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class Conditions(Strict):
    """All given conditions must hold for one and the same instance.

    Attributes:
        modality: Modality (0008,0060), any of.
        body_part: Names of the anatomy vocabulary ("knee"), any of; met by Body Part Examined,
            Anatomic Region Sequence or descriptions, in that order of trust.
        view: View Position (0018,5101) or View Code Sequence, any of; "unknown" accepts an
            image that does not say.
        laterality: R, L, or U for an image that does not say, any of.
        sender: Peer name or calling AE title, any of.
        sop_class: SOP class UID or the name pydicom gives it, any of.
        contrast: Whether contrast was given (CT).
        slice_thickness_mm: Slice Thickness (0018,0050).
        image_type: Each must be among the values of Image Type (0008,0008).
        not_image_type: None may be among them.
        attributes: Any other element by keyword.
    """

    modality: CodeStrings | None = None
    body_part: OneOrMore | None = None
    view: OneOrMore | None = None
    laterality: Listed[Side] | None = None
    sender: OneOrMore | None = None
    sop_class: SopClasses | None = None
    contrast: bool | None = None
    slice_thickness_mm: Range | None = None
    image_type: CodeStrings | None = None
    not_image_type: CodeStrings | None = None
    attributes: dict[Keyword, Test] = Field(default_factory=dict)

"""The condition language shared by a route's `when` and a pipeline's input selector."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dicom_node.model.findings import Side


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


OneOrMore = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


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
            except re.error as error:
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

    modality: OneOrMore | None = None
    body_part: OneOrMore | None = None
    view: OneOrMore | None = None
    laterality: Annotated[list[Side], BeforeValidator(_as_list)] | None = None
    sender: OneOrMore | None = None
    sop_class: OneOrMore | None = None
    contrast: bool | None = None
    slice_thickness_mm: Range | None = None
    image_type: OneOrMore | None = None
    not_image_type: OneOrMore | None = None
    attributes: dict[str, Test] = Field(default_factory=dict)

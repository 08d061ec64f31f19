"""UIDs: valid ones only, and derived ones that depend on their parts and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.model.identifiers import derived_uid, is_valid_uid

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=20)


@pytest.mark.parametrize("uid", ["1", "0.0", "1.2.840.10008.1.1", "2.25." + "9" * 39, "1" * 64])
def test_a_uid_by_the_standard_is_valid(uid: str) -> None:
    assert is_valid_uid(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.02",
        "01.2",
        "1.2a",
        "1.2 ",
        "1.2\n",
        "../etc",
        "1" * 65,
        "１.2",
    ],
)
def test_anything_else_is_not(uid: str) -> None:
    assert not is_valid_uid(uid)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_derived_uid_is_valid_and_always_the_same(parts: list[str]) -> None:
    uid = derived_uid(*parts)
    assert is_valid_uid(uid)
    assert uid.startswith("2.25.")
    assert derived_uid(*parts) == uid


@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=3))
def test_other_parts_make_another_uid(one: list[str], other: list[str]) -> None:
    assert (derived_uid(*one) == derived_uid(*other)) == (one == other)


def test_a_list_is_kept_apart_from_what_follows() -> None:
    assert derived_uid(["a", "b"], "c") != derived_uid(["a"], "b", "c")
    assert derived_uid("ab", "c") != derived_uid("a", "bc")

"""A name that nobody has takes as long as a wrong password: nobody learns who is known."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from dicom_node.store import accounts


def test_an_unknown_name_costs_a_whole_verification() -> None:
    kept = accounts.hash_password("a long enough password")
    assert extract_parameters(accounts._NOBODY) == extract_parameters(kept)
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(accounts._NOBODY, "a long enough password")
    assert not accounts.is_password("a long enough password", None)
    assert accounts.is_password("a long enough password", kept)

"""Our own texts in the source's character set, so that the patient's name can stay as it is."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from typing import Final

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

_DEFAULT: Final = "iso8859"
"""What pydicom calls the default repertoire (ISO-IR 6, which is ASCII)."""

_PLAIN: Final = str.maketrans(
    {
        "±": "+/-",
        "≥": ">=",
        "≤": "<=",
        "×": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "µ": "u",
        "μ": "u",
        "°": " deg",
        "·": "-",
        "…": "...",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "→": "->",
        "²": "2",
        "³": "3",
        "½": "1/2",
        "ß": "ss",
    }
)


def plain_ascii(text: str) -> str:
    """The text in ASCII: signs spelt out, accents dropped, what is left as "?"."""
    spelt = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    bare = "".join(c for c in spelt if not unicodedata.combining(c))
    return bare.encode("ascii", "replace").decode("ascii")


def fit_texts(dataset: Dataset, charsets: Sequence[str]) -> None:
    """Make every text of a data set encodable in `charsets`, in place.

    Args:
        charsets: Values of Specific Character Set (0008,0005); empty: the default repertoire.
    """
    encodings = _encodings(charsets)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or []:
                fit_texts(item, charsets)
        elif element.VR in CUSTOMIZABLE_CHARSET_VR and element.value:
            if isinstance(element.value, MultiValue | list):
                element.value = [_fit(str(v), encodings) for v in element.value]
            else:
                element.value = _fit(str(element.value), encodings)


def charsets_of(header: Dataset) -> list[str]:
    """Values of a header's Specific Character Set, empty when it states none."""
    value = header.get("SpecificCharacterSet")
    if not value:
        return []
    return [str(v) for v in value] if isinstance(value, MultiValue | list) else [str(value)]


def _encodings(charsets: Sequence[str]) -> list[str]:
    if not charsets:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return list(convert_encodings(list(charsets)))
    except (LookupError, ValueError, UserWarning):
        return []  # a character set that nobody knows: ASCII is a part of all of them


def _fit(text: str, encodings: list[str]) -> str:
    if text.isascii():
        return text
    # pydicom writes the default repertoire as Latin-1, which would put wrong bytes into it
    taken_for_default = _DEFAULT in encodings and _encodes(text, _DEFAULT)
    if not taken_for_default and any(_encodes(text, e) for e in encodings if e != _DEFAULT):
        return text
    return plain_ascii(text)


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True

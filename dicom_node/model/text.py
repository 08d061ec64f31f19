"""Free text of headers as comparable words: case, accents, punctuation and glue taken away."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

_LETTERS: Final = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
    | {"ة": "ه", "ى": "ي", "ـ": "", "'": "", "’": "", "ʼ": "", "�": " "}
)
"""Letters that Unicode does not decompose into a base letter and an accent."""
_VOICING: Final = "\u3099\u309a"
"""Kana's voicing marks make another letter, unlike an accent."""
_EAST: Final = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
"""Kana, Chinese characters, Hangul: written without spaces."""
_EAST_RUN: Final = re.compile(f"[{_EAST}]+")
_TOKEN: Final = re.compile(rf"(?<![^\W\d_])[a-z]\d+(?![^\W_])|\d+|[{_EAST}]+|[^\W\d_{_EAST}]+")
"""A level as "l5"; else runs of digits, of eastern letters, of other letters."""


def is_eastern(word: str) -> bool:
    """Tell whether a word is written in a script that puts no spaces between words."""
    return _EAST_RUN.fullmatch(word) is not None


@lru_cache(maxsize=8192)
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, folded: "Knie_rechts-AP" is ("knie", "rechts", "ap").

    Case, accents (NFKD), full-width forms, underscores and camelCase are folded; a run of
    Chinese, Japanese or Korean letters is one word.
    """
    wide = unicodedata.normalize("NFKC", _redecoded(text))
    # `lower` also: the case that Cherokee folds to is the upper one
    folded = _camel_split(wide).casefold().lower()
    decomposed = unicodedata.normalize("NFKD", folded)
    bare = "".join(c for c in decomposed if c in _VOICING or unicodedata.category(c) != "Mn")
    return tuple(_TOKEN.findall(unicodedata.normalize("NFKC", bare.translate(_LETTERS))))


def folded(text: str) -> str:
    """Return a text's folded words with single spaces."""
    return " ".join(words_of(text))


def squashed(text: str) -> str:
    """Return a text's folded words without spaces: "L_SPINE" and "LSpine" are "lspine"."""
    return "".join(words_of(text))


def texts_of(value: Any) -> list[str]:
    """Return every text in an attribute's plain value, whatever its shape; none for nothing."""
    return [text for text in _texts(value) if text]


def codes_of(value: Any) -> list[tuple[str, str, str]]:
    """Return the (scheme, value, meaning) of the codes in a sequence's plain value."""
    items = value if isinstance(value, list | tuple) else [value]
    return [
        (_part(item, "scheme"), _part(item, "value"), _part(item, "meaning"))
        for item in items
        if isinstance(item, Mapping)
    ]


def _part(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return "" if value is None else str(value).strip()


def _texts(value: Any) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value).strip(" \0\t\r\n")


def _redecoded(text: str) -> str:
    """Undo UTF-8 that was read as Latin-1: "HÃ¼fte" is "Hüfte"."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _camel_split(text: str) -> str:
    parts = [
        f" {here}" if before.islower() and here.isupper() else here
        for before, here in zip(" " + text, text, strict=False)
    ]
    return "".join(parts)

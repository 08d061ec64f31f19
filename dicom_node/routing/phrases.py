"""Finding the phrases of a vocabulary in a text: the longest first, each letter used once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from dicom_node.model.text import is_eastern, words_of

Meaning = TypeVar("Meaning")

_SPELLED_OUT: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_LOSABLE: Final = frozenset("äöüßåæøéèêëàâçîïôûùñóíáúãõąćęłńśźżčďěňřšťůžýőűşğ")
"""Letters that a wrong character set turns into "?" or a blank."""
_DAMAGED_PIECE: Final = 3
_DAMAGED_TOTAL: Final = 4
"""A damaged word must keep this many letters in a row, and in all."""
_SHORTEST_BARE: Final = 3
_ARTICLES: Final = ("وال", "بال", "لل", "ال")


@dataclass(frozen=True, slots=True)
class Hit(Generic[Meaning]):
    """A phrase found: what it means, and the words of the text from `start` to before `end`."""

    meaning: Meaning
    start: int
    end: int
    phrase: str


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Meaning]):
    words: tuple[str, ...]
    stems: tuple[bool, ...]
    meaning: Meaning

    @property
    def rank(self) -> tuple[int, int, int]:
        """More words before fewer, whole words before beginnings, long ones before short ones."""
        return len(self.words), sum(not stem for stem in self.stems), sum(map(len, self.words))

    def matches(self, words: Sequence[str]) -> bool:
        return len(words) >= len(self.words) and all(
            have.startswith(want) if stem else have == want
            for want, stem, have in zip(self.words, self.stems, words, strict=False)
        )


class Phrases(Generic[Meaning]):
    """Phrases with a meaning each; see `find`."""

    def __init__(self) -> None:
        self._whole: dict[str, list[_Entry[Meaning]]] = {}
        self._begun: dict[str, list[_Entry[Meaning]]] = {}
        self._eastern: dict[str, Meaning] = {}
        self._eastern_first: list[_Entry[Meaning]] = []
        self._longest_eastern = 1
        self._before: frozenset[str] = frozenset()
        self._after: frozenset[str] = frozenset()
        self._glue_words: dict[str, Meaning] = {}

    def glue(self, before: Iterable[str], after: Iterable[str]) -> None:
        """Name the affixes that may be written onto a gluable word."""
        self._before, self._after = frozenset(before), frozenset(after)

    def add(self, phrase: str, meaning: Meaning, *, gluable: bool = False) -> None:
        """Add a phrase; a word that ends in `*` is the beginning of one.

        The first meaning given to a phrase stays. Spellings with "ue" for "ü" and with the
        letter lost by a wrong character set are added too.
        """
        for spelling in _spellings(phrase):
            self._add(spelling, meaning, gluable)

    def find(self, text: str) -> list[Hit[Meaning]]:
        """Return the phrases in a text from left to right, none overlapping another."""
        words = words_of(text)
        hits: list[Hit[Meaning]] = []
        at = 0
        while at < len(words):
            if is_eastern(words[at]):
                found = self._find_eastern_first(words, at)
                hits += found
                at = found[-1].end if found else at + 1
                continue
            hit = self._match(words, at)
            if hit is not None:
                hits.append(hit)
                at = hit.end
            else:
                at += 1
        return hits

    def _add(self, phrase: str, meaning: Meaning, gluable: bool) -> None:
        words: list[str] = []
        stems: list[bool] = []
        for part in phrase.split():
            folded = words_of(part.rstrip("*"))
            words += folded
            stems += [False] * (len(folded) - 1) + [part.endswith("*")] if folded else []
        if not words:
            return
        if len(words) == 1 and is_eastern(words[0]):
            self._eastern.setdefault(words[0], meaning)
            self._longest_eastern = max(self._longest_eastern, len(words[0]))
            return
        entry = _Entry(tuple(words), tuple(stems), meaning)
        if is_eastern(words[0]):
            self._eastern_first.append(entry)
            return
        table = self._begun if stems[0] else self._whole
        entries = table.setdefault(words[0], [])
        if not any((e.words, e.stems) == (entry.words, entry.stems) for e in entries):
            entries.append(entry)
        if gluable and len(words) == 1 and not stems[0]:
            self._glue_words.setdefault(words[0], meaning)

    def _match(self, words: Sequence[str], at: int) -> Hit[Meaning] | None:
        best = self._best(words, at)
        if best is not None:
            return Hit(best.meaning, at, at + len(best.words), " ".join(best.words))
        word = words[at]
        for article in _ARTICLES:
            if word.startswith(article):
                rest = [word.removeprefix(article), *words[at + 1 :]]
                found = self._best(rest, 0)
                if found is not None:
                    return Hit(found.meaning, at, at + len(found.words), " ".join(found.words))
        bare = self._bare(word)
        return None if bare is None else Hit(self._glue_words[bare], at, at + 1, bare)

    def _best(self, words: Sequence[str], at: int) -> _Entry[Meaning] | None:
        word, rest = words[at], words[at:]
        candidates = list(self._whole.get(word, ()))
        for end in range(1, len(word) + 1):
            candidates += self._begun.get(word[:end], ())
        fitting = [entry for entry in candidates if entry.matches(rest)]
        return max(fitting, key=lambda entry: entry.rank, default=None)

    def _bare(self, word: str) -> str | None:
        """Return the gluable word inside "ltknee" or "kneeap"; one affix on either side."""
        fronts = ["", *(front for front in self._before if word.startswith(front))]
        backs = ["", *(back for back in self._after if word.endswith(back))]
        for front in fronts:
            for back in backs:
                bare = word[len(front) : len(word) - len(back)]
                if len(bare) >= _SHORTEST_BARE and bare in self._glue_words:
                    return bare
        return None

    def _find_eastern_first(self, words: Sequence[str], at: int) -> list[Hit[Meaning]]:
        """Find words in an eastern run, and phrases that begin at its end ("頭部 CT")."""
        fitting = [entry for entry in self._eastern_first if _continues(entry.words, words, at)]
        if not fitting:
            return self._find_eastern(words[at], at)
        best = max(fitting, key=lambda entry: entry.rank)
        hits = self._find_eastern(words[at].removesuffix(best.words[0]), at)
        end = at + len(best.words)
        return [*hits, Hit(best.meaning, at, end, " ".join(best.words))]

    def _find_eastern(self, run: str, at: int) -> list[Hit[Meaning]]:
        """Find words inside a run; where two overlap the longer one stands."""
        found = [
            (start, run[start : start + size])
            for size in range(min(self._longest_eastern, len(run)), 0, -1)
            for start in range(len(run) - size + 1)
            if run[start : start + size] in self._eastern
        ]
        used: set[int] = set()
        kept: list[tuple[int, str]] = []
        for start, word in found:
            places = set(range(start, start + len(word)))
            if used.isdisjoint(places):
                used |= places
                kept.append((start, word))
        return [Hit(self._eastern[word], at, at + 1, word) for _, word in sorted(kept)]


def _continues(phrase: Sequence[str], words: Sequence[str], at: int) -> bool:
    """Tell whether a phrase stands across runs: only its ends may lie inside one."""
    have = words[at : at + len(phrase)]
    return (
        len(have) == len(phrase)
        and have[0].endswith(phrase[0])
        and have[1:-1] == phrase[1:-1]
        and (have[-1].startswith(phrase[-1]) if is_eastern(phrase[-1]) else have[-1] == phrase[-1])
    )


def _spellings(phrase: str) -> set[str]:
    """Return a phrase as it is, with "ue" for "ü", and with lost letters as blanks."""
    lower = phrase.lower()
    found = {phrase, lower.translate(_SPELLED_OUT)}
    damaged = "".join(" " if letter in _LOSABLE else letter for letter in lower)
    pieces = damaged.rstrip("*").split()
    longest, total = max(map(len, pieces), default=0), sum(map(len, pieces))
    # a letter lost at a word's end leaves another word ("hole" of "holeň"), so that is no clue
    if (
        longest >= _DAMAGED_PIECE
        and total >= _DAMAGED_TOTAL
        and len(pieces) == len(phrase.split()) + sum(letter in _LOSABLE for letter in lower)
    ):
        found.add(damaged)
    return found

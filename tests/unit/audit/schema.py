"""The schema of PS3.15 section A.5.1, to hold messages to."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lxml import etree


@cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))


def checked(text: str | bytes) -> etree._Element:
    """Return a message's root; fails when the schema does not allow it."""
    root = etree.fromstring(text.encode() if isinstance(text, str) else text)
    assert _schema().validate(root), _schema().error_log
    return root

"""Findings as plain JSON, for the database: every fact but the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dicom_node.model.findings import Finding, Findings


def rows_of(findings: Findings) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (kind, data) of the statement and of each finding, in order.

    Kinds are "statement" and the findings' class names in snake_case.
    """
    return [
        ("statement", {"text": findings.statement}),
        *((_kind(item), _plain(item)) for item in findings.items),
    ]


def _kind(item: Finding) -> str:
    name = type(item).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in fields(value)
            if not isinstance(getattr(value, item.name), np.ndarray)
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    return value

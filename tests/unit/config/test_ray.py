"""Section `ray`: addresses, shares of a GPU, and what a pipeline says of its own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dicom_node.config.ray import PoolSection, RaySection


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "ray://[::1]:10001"])
def test_addresses_are_auto_or_a_client_server(address: str) -> None:
    assert RaySection(address=address).address == address


@pytest.mark.parametrize("address", ["", "head:6379", "ray://head", "http://head:1", "local"])
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="neither auto nor ray://host:port"):
        RaySection(address=address)


def test_more_than_one_gpu_is_a_whole_number() -> None:
    assert RaySection(num_gpus=0.25).num_gpus == 0.25
    assert RaySection(num_gpus=2).num_gpus == 2
    with pytest.raises(ValidationError, match="more than one is a whole number"):
        RaySection(num_gpus=1.5)


def test_the_least_is_not_more_than_the_most() -> None:
    with pytest.raises(ValidationError, match="`min_actors` is more than `max_actors`"):
        RaySection(min_actors=5)


def test_a_pipeline_says_otherwise_and_leaves_the_rest() -> None:
    site = RaySection(num_gpus=1, max_actors=2, idle_seconds=7)
    own = site.of(PoolSection(num_gpus=0.5, max_actors=8))
    assert (own.num_gpus, own.max_actors, own.idle_seconds) == (0.5, 8, 7)
    assert site.of(None) == site
    with pytest.raises(ValidationError):
        site.of(PoolSection(min_actors=3))

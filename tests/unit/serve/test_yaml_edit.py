"""A peer is added as text: what a person wrote stays as it was."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import ConfigError
from dicom_node.serve.yaml_edit import add_peer, scalar

PEER = {"ae_title": "DXR02", "host": "10.0.0.22", "port": 104}

COMMENTED = """\
# our node, see the wiki
node: {ae_title: AINODE, data_dir: data}

peers:
  pacs:   {ae_title: PACS,  host: 10.0.0.5, port: 104}   # the archive
  xray-1:
    ae_title: DXR01   # room 3
    host: 10.0.0.21
    port: 104

# who may send
accept_from: [pacs, xray-1]        # nobody else

routes: []
"""

LAYOUTS = {
    "block": COMMENTED,
    "flow": "node: {}\npeers: {pacs: {ae_title: P, host: h, port: 1}}\naccept_from: pacs\n",
    "list": "peers:\n    pacs: {ae_title: P, host: h, port: 1}\naccept_from:\n    - pacs # it\n",
    "flush list": "accept_from:\n- pacs\npeers:\n pacs: {ae_title: P, host: h, port: 1}",
    "empty": "peers: {}\naccept_from: []\nroutes: []\n",
    "nothing": "peers:\naccept_from:\nroutes: []\n",
    "missing": "node: {}\n",
    "windows": "peers:\r\n  pacs: {ae_title: P, host: h, port: 1}\r\naccept_from: [pacs]\r\n",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_peer_is_added_in_every_layout_and_no_line_is_lost(layout: str) -> None:
    before = yaml.safe_load(layout)
    after_text = add_peer(layout, "xray-2", PEER, accept=True)
    after = yaml.safe_load(after_text)
    senders = before.get("accept_from") or []
    assert after["peers"] == {**(before.get("peers") or {}), "xray-2": PEER}
    assert after["accept_from"] == [*([senders] if isinstance(senders, str) else senders), "xray-2"]
    assert {k: v for k, v in after.items() if k not in ("peers", "accept_from")} == {
        k: v for k, v in before.items() if k not in ("peers", "accept_from")
    }


def test_comments_and_the_order_stay() -> None:
    after = add_peer(COMMENTED, "xray-2", PEER, accept=True).splitlines()
    added = "  xray-2: {ae_title: DXR02, host: 10.0.0.22, port: 104}"
    assert after.index(added) == COMMENTED.splitlines().index("    port: 104") + 1
    after.remove(added)
    assert "\n".join(after) + "\n" == COMMENTED.replace("xray-1]", "xray-1, xray-2]")


def test_who_only_receives_is_not_accepted() -> None:
    after = yaml.safe_load(add_peer(COMMENTED, "xray-2", PEER, accept=False))
    assert after["accept_from"] == ["pacs", "xray-1"]


def test_where_anyone_may_send_nothing_is_added() -> None:
    after = add_peer("peers: {}\naccept_from: anyone\n", "xray-2", PEER, accept=True)
    assert yaml.safe_load(after)["accept_from"] == "anyone"


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="of that name"):
        add_peer(COMMENTED, "pacs", PEER, accept=True)


@given(st.text(max_size=30).filter(str.isprintable))
def test_any_text_is_read_back_as_itself(value: str) -> None:
    assert yaml.safe_load(f"x: {scalar(value)}")["x"] == value


def test_a_control_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="control character"):
        scalar("x\ny")

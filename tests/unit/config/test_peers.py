"""Peers of both kinds: each mistake is told with its line; a web peer cannot send."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import load_config
from dicom_node.config.load import InvalidConfigError
from dicom_node.model.peers import Peer, WebPeer, sender_of

GOOD = """\
node: {ae_title: AINODE, data_dir: data}
peers:
  pacs:
    ae_title: PACS
    host: 10.0.0.5
    port: 2762
    tls: {ca: tls/ca.pem, certificate: tls/us.pem, key: tls/us.key}
    storage_commitment: true
  cloud:
    url: https://pacs.example/dicom-web/
    auth: {token_file: secrets/token}
    tls: {ca: /etc/ssl/hospital.pem}
accept_from: [pacs]
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "node.yaml"
    file.write_text(text)
    return file


def test_the_kind_is_seen_by_the_url_and_relative_files_are_found(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    pacs, cloud = config.peers["pacs"], config.peers["cloud"]
    assert isinstance(pacs, Peer)
    assert isinstance(cloud, WebPeer)
    assert pacs.tls is not None
    assert pacs.tls.key == tmp_path / "tls/us.key"
    assert pacs.tls.check_host_name
    assert cloud.url == "https://pacs.example/dicom-web"
    assert cloud.auth is not None
    assert cloud.auth.token_file == tmp_path / "secrets/token"
    assert cloud.tls is not None
    assert cloud.tls.ca == Path("/etc/ssl/hospital.pem")
    assert list(config.dicom_peers) == ["pacs"]
    assert list(config.senders) == ["pacs"]


def test_what_a_web_peer_sent_is_known_by_its_name() -> None:
    web = WebPeer(url="https://pacs.example/dicom-web")
    assert sender_of("cloud", web) == "cloud"
    assert sender_of("Zürich\\archive of all hospitals", web) == "Zricharchive of"
    assert sender_of("cloud", Peer(ae_title="PACS", host="10.0.0.5", port=104)) == "PACS"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "why", "fix"),
    [
        ("[pacs]", "[pacs, cloud]", 13, "accept_from[1]", "cannot send", "`ae_title`"),
        ("[pacs]", "[cloud]", 1, "node.yaml", "has `storage_commitment`", "reason"),
        ("    port: 2762\n", "", 3, "peers.pacs.port", "missing", "`port:`"),
        ("{ca: tls/ca.pem,", "{cas: x,", 7, "peers.pacs.tls.cas", "unknown key", "`ca`"),
        (", key: tls/us.key", "", 7, "peers.pacs.tls", "together", "reason"),
        ("{token_file:", "{tokenfile:", 11, "peers.cloud.auth.tokenfile", "unknown", "token_file"),
        ("{token_file: secrets/token}", "{user: a}", 11, "peers.cloud.auth", "together", "reason"),
        ("{token_file: secrets/token}", "{}", 11, "peers.cloud.auth", "either", "reason"),
        ("https://pacs.example/dicom-web/", "pacs", 10, "peers.cloud.url", "no address", "reason"),
        ("https://pacs", "https://u:pw@pacs", 10, "peers.cloud.url", "use `auth`", "reason"),
        ("dicom-web/", "dicöm", 10, "peers.cloud.url", "no address", "reason"),
        ("https://pacs", "http://pacs", 9, "peers.cloud", "not https", "reason"),
        ("    auth:", "    ae_title: X\n    auth:", 11, "peers.cloud.ae_title", "unknown", "auth"),
        ("    host:", "    hots:", 5, "peers.pacs.hots", "unknown key", "`host`"),
    ],
)
def test_a_mistake_is_told_with_line_reason_and_fix(
    tmp_path: Path, old: str, new: str, line: int, key: str, why: str, fix: str
) -> None:
    assert old in GOOD
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, GOOD.replace(old, new, 1)))
    found = {problem.key: problem for problem in caught.value.problems}
    assert key in found, found
    assert found[key].line == line
    assert why in found[key].why
    assert fix in found[key].fix
    assert "u:pw" not in str(caught.value)


def test_commitment_needs_no_name_where_anyone_may_send(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD.replace("[pacs]", "anyone")))
    assert config.dicom_peers["pacs"].storage_commitment

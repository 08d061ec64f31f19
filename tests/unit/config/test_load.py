"""Every mistake in node.yaml is told with its line, its reason and a way out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config import InvalidConfigError, NodeConfig, load_config
from dicom_node.errors import ConfigError

GOOD = """\
node:
  ae_title: AINODE
  port: 11112
  data_dir: data

peers:
  pacs:   {ae_title: PACS,  host: 10.0.0.5, port: 104}
  xray-1: {ae_title: DXR01, host: 10.0.0.21, port: 104}

accept_from: [pacs, xray-1]

settle: {quiet_seconds: 60}

routes:
  - name: knee radiographs
    when: {modality: [CR, DX], body_part: knee, view: [AP, PA]}
    run: [knee_kl_ensemble]
    send_to: [pacs]
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    return file


def problem_of(tmp_path: Path, text: str) -> tuple[int, str, str, str]:
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, text), {"knee_kl_ensemble"})
    problem = caught.value.problems[0]
    return problem.line, problem.key, problem.why, problem.fix


@pytest.mark.database_file
def test_the_design_example_loads(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.node.ae_title == ["AINODE"]
    assert config.node.data_dir == tmp_path / "data"
    assert config.routes[0].when.body_part == ["knee"]
    assert set(config.senders) == {"pacs", "xray-1"}
    assert config.database_url == f"sqlite:///{tmp_path / 'data' / 'node.sqlite3'}"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "why", "fix"),
    [
        ("modality:", "modaltiy:", 16, "routes[0].when.modaltiy", "unknown key", "`modality`"),
        ("  port: 11112", "  port: 0", 3, "node.port", "greater than or equal to 1", "range"),
        ("  port: 11112", "  port: abc", 3, "node.port", "'abc'", "number"),
        ("  ae_title: AINODE", "  ae_title: ''", 2, "node.ae_title[0]", "blank", "change"),
        ("AINODE", "A_TITLE_THAT_IS_TOO_LONG", 2, "node.ae_title[0]", "24 characters", "change"),
        ("[pacs, xray-1]", "[pacs, xray-2]", 10, "accept_from[1]", "xray-2", "`xray-1`"),
        ("send_to: [pacs]", "send_to: [pasc]", 18, "routes[0].send_to[0]", "pasc", "`pacs`"),
        ("[knee_kl_ensemble]", "[knee_kl]", 17, "routes[0].run[0]", "knee_kl", "knee_kl_ens"),
        ("quiet_seconds: 60", "quiet_seconds: -1", 12, "settle.quiet_seconds", "-1", "range"),
        ("  data_dir: data\n", "", 1, "node.data_dir", "missing", "data_dir"),
        ("settle: {quiet_seconds: 60}", "settle: 60", 12, "settle", "dictionary", "indented"),
        ("accept_from:", "peers: {}\naccept_from:", 10, "YAML", "given twice", "mend"),
        (
            "body_part: knee",
            "attributes: {Manufacturer: {matches: '('}}",
            16,
            "routes[0].when.attributes.Manufacturer.matches",
            "regular expression",
            "change",
        ),
        (
            "body_part: knee",
            "sop_class: [CT Image Storage, Digital XRays for Presentation]",
            16,
            "routes[0].when.sop_class[1]",
            "did you mean `Digital X-Ray Image Storage - For Presentation`?",
            "change",
        ),
        (
            "modality: [CR, DX]",
            "modality: 'CR, DX'",
            16,
            "routes[0].when.modality[0]",
            "`CR, DX` is no single value; several are written as a list: [CR, DX]",
            "change",
        ),
        (
            "body_part: knee",
            "sop_class: 1.2.840.10008.1.2.4.50",
            16,
            "routes[0].when.sop_class[0]",
            "is the UID of a transfer syntax",
            "change",
        ),
        (
            "body_part: knee",
            "attributes: {PixelData: {present: true}}",
            16,
            "routes[0].when.attributes.PixelData",
            "`PixelData` holds binary data, which the index does not keep",
            "key",
        ),
        (
            "body_part: knee",
            "attributes: {PatientPostion: {equals: HFS}}",
            16,
            "routes[0].when.attributes.PatientPostion",
            "did you mean `PatientPosition`?",
            "key",
        ),
        (
            "view: [AP, PA]",
            "laterality: []",
            16,
            "routes[0].when.laterality",
            "at least 1",
            "change",
        ),
        ("peers:", "peers: [", 8, "YAML", "expected", "mend"),
        ("  pacs:  ", "  7:  ", 7, "YAML", "the key `7` is read as a number", '"7"'),
        ("  pacs:  ", "  on:  ", 7, "YAML", "the key `on` is read as true or false", '"on"'),
        ("  pacs:  ", "  ~:  ", 7, "YAML", "the key `~` is read as nothing", '"~"'),
        (
            "settle:",
            "alerts: {channels: {no: {smtp: mail, sender: a@b, to: a@b}}}\nsettle:",
            12,
            "YAML",
            "the key `no` is read as true or false",
            '"no"',
        ),
        ("AINODE", "{{ ct_ae }}", 2, "YAML", "braces or brackets stand", "template"),
        ("settle:", "{{ more }}: 1\nsettle:", 12, "YAML", "braces or brackets stand", "template"),
        ("60", "2026-02-30", 12, "YAML", "'2026-02-30' is no timestamp", "quotes"),
        ("60", "!!bool maybe", 12, "YAML", "'maybe' is no bool", "quotes"),
        (
            "data_dir: data",
            "data_dir: ~no-such-user/data",
            4,
            "node.data_dir",
            "no home folder is known for `~no-such-user`",
            "whole path",
        ),
        (
            "port: 104}",
            "port: 104, tls: {ca: ~no-such-user/ca.pem}}",
            7,
            "peers.pacs.tls.ca",
            "no home folder",
            "whole path",
        ),
        (
            "body_part: knee",
            "attributes: {Manufacturer: {matches: 'a{99999999999}'}}",
            16,
            "routes[0].when.attributes.Manufacturer.matches",
            "regular expression",
            "change",
        ),
    ],
)
def test_a_mistake_is_told_with_line_reason_and_fix(
    tmp_path: Path, old: str, new: str, line: int, key: str, why: str, fix: str
) -> None:
    assert old in GOOD
    found = problem_of(tmp_path, GOOD.replace(old, new, 1))
    assert found[0] == line
    assert found[1] == key
    assert why in found[2]
    assert fix in found[3]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("port: 11112", "port: x").replace("quiet_seconds: 60", "quiet_seconds: y")
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, text))
    assert [problem.key for problem in caught.value.problems] == [
        "node.port",
        "settle.quiet_seconds",
    ]


def test_two_routes_of_one_name_are_refused(tmp_path: Path) -> None:
    double = GOOD + GOOD[GOOD.index("  - name:") :]
    assert "same name" in problem_of(tmp_path, double)[2]


def test_anyone_may_send_only_by_the_word(tmp_path: Path) -> None:
    text = GOOD.replace("accept_from: [pacs, xray-1]", "accept_from: anyone")
    assert load_config(write(tmp_path, text)).anyone_may_send


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "absent.yaml")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "no keys" in problem_of(tmp_path, "")[2]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_load_or_give_a_config_error(tmp_path_factory: object, data: bytes) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    file = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.yaml"
    file.write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert isinstance(load_config(file), NodeConfig)


TLS = "receive: {tls: {certificate: tls/node.pem, key: /etc/node.key"


def test_receiving_is_told_in_full_and_its_files_are_found(tmp_path: Path) -> None:
    text = GOOD.replace(
        "settle:",
        "receive:\n"
        "  processes: 2\n"
        "  sop_classes: [1.2.3.4]\n"
        "  tls: {certificate: tls/node.pem, key: /etc/node.key}\n"
        "settle:",
    )
    config = load_config(write(tmp_path, text))
    assert config.receive.processes == 2
    assert config.receive.tls is not None
    assert config.receive.tls.certificate == tmp_path / "tls" / "node.pem"
    assert config.receive.tls.key == Path("/etc/node.key")
    assert config.receive.tls.client_ca is None


@pytest.mark.parametrize(
    ("section", "key", "why"),
    [
        ("receive: {sop_classes: [CT]}", "receive.sop_classes[0]", "'CT' is not a UID"),
        ("receive: {max_pdu_kb: 2}", "receive.max_pdu_kb", "greater than or equal to 4"),
        ("receive: {tls: {key: k}}", "receive.tls.certificate", "it is missing"),
        (TLS + ", cipher: x}}", "receive.tls.cipher", "unknown key `cipher`"),
        (TLS + ", client_certificate: required}}", "receive.tls", "need a `client_ca`"),
        (TLS + ", port: 11112}}", "node.yaml", "are both 11112"),
    ],
)
def test_a_mistake_in_receiving_is_told(tmp_path: Path, section: str, key: str, why: str) -> None:
    line, found, said, fix = problem_of(tmp_path, f"{GOOD}\n{section}\n")
    assert found == key
    assert why in said
    assert fix
    assert line >= 1


def test_an_unknown_key_of_tls_names_those_that_there_are(tmp_path: Path) -> None:
    _, _, _, fix = problem_of(tmp_path, f"{GOOD}\n{TLS}, certificat: x}}}}\n")
    assert fix == "did you mean `certificate`?"


def test_a_peer_that_needs_a_certificate_needs_tls_that_asks_for_one(tmp_path: Path) -> None:
    text = GOOD.replace("port: 104}", "port: 104, needs_certificate: true}", 1)
    assert "peer pacs needs a certificate" in problem_of(tmp_path, text)[2]
    text += f"\n{TLS}, client_ca: ca.pem, client_certificate: optional}}}}\n"
    assert load_config(write(tmp_path, text)).peers["pacs"].needs_certificate


def test_the_warning_of_the_disk_comes_before_the_refusal(tmp_path: Path) -> None:
    text = GOOD.replace("port: 11112", "port: 11112\n  min_free_mb: 10\n  warn_free_mb: 5", 1)
    assert "no warning would come" in problem_of(tmp_path, text)[2]
    text = GOOD.replace("port: 11112", "port: 11112\n  min_free_mb: 10", 1)
    assert load_config(write(tmp_path, text)).node.warn_below_mb == 20

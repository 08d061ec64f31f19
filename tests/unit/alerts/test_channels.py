"""Each channel against a real server on a loopback port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dicom_node.alerts import Notice, channel_of
from dicom_node.alerts.channels import where
from dicom_node.config.watching import AnyChannel
from dicom_node.demo.ports import free_port
from dicom_node.errors import NodeError
from dicom_node.model.alerts import Change, Severity
from tests.peers.certificates import Certificates
from tests.peers.listening import (
    mail_server,
    syslog_datagrams,
    syslog_stream,
    web_hook,
)
from tests.peers.ports import wait_for

NOTICE = Notice(
    "AINODE",
    "peer_down",
    "pacs",
    Change.FIRING,
    Severity.CRITICAL,
    "Peer pacs does not answer since 2026-03-01T08:00:00+00:00.",
    "`dicom-node check` says why",
    datetime(2026, 3, 1, 8, tzinfo=UTC),
)
MAIL = {"smtp": "127.0.0.1", "sender": "node@hospital.example", "to": ["duty@hospital.example"]}


def section(**keys: Any) -> AnyChannel:
    return TypeAdapter(AnyChannel).validate_python(keys)


def send(**keys: Any) -> None:
    channel_of(section(**keys)).send(NOTICE)


def test_a_mail_by_starttls_with_a_login(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    with mail_server(certificates, password=b"open sesame") as box:
        send(
            **MAIL,
            port=box.port,
            ca=certificates.ca.certificate,
            user="node",
            password_file=tmp_path / "password",
        )
    ((to, mail),) = box.mails
    assert to == ["duty@hospital.example"]
    assert mail["Subject"] == "[AINODE] critical: peer down (pacs)"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_payload()
    assert "Peer pacs does not answer" in text
    assert "What to do: `dicom-node check`" in text
    assert box.logins == [(b"node", b"open sesame")]


def test_a_mail_by_tls_from_the_first_byte(certificates: Certificates) -> None:
    with mail_server(certificates, starttls=False) as box:
        send(**MAIL, port=box.port, security="tls", ca=certificates.ca.certificate)
    assert len(box.mails) == 1


def test_a_mail_is_dated_when_it_is_sent_however_old_the_matter_is() -> None:
    with mail_server() as box:
        send(**MAIL, port=box.port, security="none")
    ((_, mail),) = box.mails
    # a reader that sorts by date would put a reminder where nobody looks
    age = datetime.now(UTC) - parsedate_to_datetime(mail["Date"])
    assert abs(age) < timedelta(minutes=5)


def test_a_mail_in_plain_text_goes_only_where_node_yaml_says_so() -> None:
    with mail_server() as box:
        send(**MAIL, port=box.port, security="none")
        assert len(box.mails) == 1
        with pytest.raises(NodeError, match="STARTTLS"):
            send(**MAIL, port=box.port)
    assert len(box.mails) == 1


def test_a_mail_server_of_another_ca_is_not_trusted(certificates: Certificates) -> None:
    with (
        mail_server(certificates) as box,
        pytest.raises(NodeError, match="certificate does not pass"),
    ):
        send(**MAIL, port=box.port, ca=certificates.stranger.certificate)


def test_what_a_mail_server_refuses_is_told_without_its_words(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("wrong\n")
    with (
        mail_server(certificates, password=b"right") as box,
        pytest.raises(NodeError, match="refuses the login of node"),
    ):
        send(
            **MAIL,
            port=box.port,
            ca=certificates.ca.certificate,
            user="node",
            password_file=tmp_path / "password",
        )
    with mail_server() as box:
        box.refuses = True
        with pytest.raises(NodeError, match="code 451"):
            send(**MAIL, port=box.port, security="none")


@pytest.mark.parametrize(
    "keys",
    [
        {**MAIL, "security": "none"},
        {"webhook": "http://127.0.0.1:{port}/x"},
        {"syslog": "127.0.0.1", "transport": "tcp"},
    ],
)
def test_a_server_that_is_away_is_told(keys: dict[str, Any]) -> None:
    port = free_port()
    if "webhook" in keys:
        keys = {"webhook": keys["webhook"].format(port=port)}
    else:
        keys = {**keys, "port": port}
    with pytest.raises(NodeError) as told:
        send(**keys)
    assert str(port) in told.value.what
    assert told.value.why
    assert told.value.fix


def test_slack_and_teams_and_programs_get_json_of_their_own() -> None:
    with web_hook() as hook:
        for style in ("slack", "teams", "plain"):
            send(webhook=hook.url, style=style)
    (path, headers, slack), (_, _, teams), (_, _, plain) = hook.posts
    assert path == "/hook/secret?room=1"
    assert headers["Content-Type"] == "application/json"
    assert slack["text"].startswith("*[AINODE] critical: peer down (pacs)*\nPeer pacs")
    card = teams["attachments"][0]["content"]
    assert (card["type"], card["body"][0]["text"]) == ("AdaptiveCard", NOTICE.title)
    assert plain["rule"] == "peer_down"
    assert plain["severity"] == "critical"
    assert Notice.of_plain({key: plain[key] for key in NOTICE.plain()}) == NOTICE


def test_a_reply_that_leads_elsewhere_is_not_followed() -> None:
    with web_hook() as other, web_hook() as hook:
        hook.status, hook.location = 307, other.url
        with pytest.raises(NodeError, match="leads elsewhere"):
            send(webhook=hook.url)
    assert other.posts == []


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_hook() as proxy, web_hook() as hook:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        send(webhook=hook.url)
    assert (len(hook.posts), proxy.posts) == (1, [])


def test_an_address_and_a_token_that_are_secrets_come_from_their_files(tmp_path: Path) -> None:
    with web_hook() as hook:
        (tmp_path / "url").write_text(f"{hook.url}\n")
        (tmp_path / "token").write_text("t0ken\n")
        keys = {"url_file": tmp_path / "url", "token_file": tmp_path / "token"}
        send(**keys)
        hook.status = 500
        with pytest.raises(NodeError, match="HTTP status 500") as told:
            send(**keys)
    assert hook.posts[0][1]["Authorization"] == "Bearer t0ken"
    assert "secret" not in str(told.value)
    assert hook.url not in where(section(**keys))


def test_a_line_of_syslog_by_each_transport(certificates: Certificates) -> None:
    with syslog_stream(certificates) as by_tls, syslog_stream() as by_tcp:
        ca = certificates.ca.certificate
        send(syslog="127.0.0.1", port=by_tls.port, transport="tls", ca=ca)
        send(syslog="127.0.0.1", port=by_tcp.port, transport="tcp")
        wait_for("both", lambda: by_tls.messages and by_tcp.messages)
    with syslog_datagrams() as by_udp:
        send(syslog="127.0.0.1", port=by_udp.port, transport="udp")
        wait_for("the datagram", lambda: by_udp.messages)
    for line in (*by_tls.messages, *by_tcp.messages, *by_udp.messages):
        head, _, text = line.partition(b"\xef\xbb\xbf")
        assert head.startswith(b"<26>1 2026-03-01T08:00:00.000Z "), "daemon, critical"
        assert head.split(b" ")[3] == b"dicom-node"
        assert head.endswith(b" alert - ")
        assert text.decode().startswith("[AINODE] critical: peer down (pacs): Peer pacs")


def test_a_syslog_receiver_that_breaks_off_has_taken_nothing() -> None:
    with syslog_stream() as receiver:
        receiver.deaf = True
        channel = channel_of(section(syslog="127.0.0.1", port=receiver.port, transport="tcp"))
        with pytest.raises(NodeError, match="syslog receiver"):
            channel.send(NOTICE)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({**MAIL, "user": "node", "password_file": "x", "security": "none"}, "plain text"),
        ({**MAIL, "user": "node"}, "together"),
        ({**MAIL, "to": ["Duty <duty@hospital.example>"]}, "no e-mail address"),
        ({"webhook": "file:///etc/passwd"}, "no address of a web service"),
        ({"webhook": "https://user:password@chat.example/x"}, "url_file"),
        ({"style": "slack"}, "either"),
        ({"syslog": "siem", "transport": "udp", "ca": "ca.pem"}, "tls"),
    ],
)
def test_a_channel_that_makes_no_sense_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        section(**keys)


def test_a_secret_that_cannot_be_sent_says_so(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("schl\u00fcssel \u20ac\n", encoding="utf-8")
    login = {"user": "node", "password_file": tmp_path / "secret"}
    with (
        mail_server(certificates, password=b"open sesame") as box,
        pytest.raises(NodeError, match="not ASCII") as caught,
    ):
        send(**MAIL, port=box.port, ca=certificates.ca.certificate, **login)
    assert "schl" not in str(caught.value)
    with web_hook() as hook, pytest.raises(NodeError, match="not ASCII"):
        send(webhook=hook.url, token_file=tmp_path / "secret")
    assert hook.posts == []

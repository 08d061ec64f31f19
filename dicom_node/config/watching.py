"""`alerts` and `audit` of node.yaml: who is told of trouble, and where audit messages go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from dicom_node.model.alerts import DEFAULTS, AlertRule
from dicom_node.model.conditions import OneOrMore, Strict
from dicom_node.model.peers import is_web_address


def _address(value: str) -> str:
    name, at, domain = value.rpartition("@")
    if not at or not name or not domain or not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} is no e-mail address")
    if any(character in value for character in " ,;<>"):
        raise ValueError(f"{value!r} is no e-mail address: give it alone, without a name")
    return value


def _web_address(value: str) -> str:
    if not is_web_address(value):
        raise ValueError("it is no address of a web service (https://HOST/PATH)")
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a password does not belong here: use `url_file`")
    return value


Address = Annotated[str, AfterValidator(_address)]


class MailChannel(Strict):
    """E-mail by SMTP (RFC 5321).

    Attributes:
        security: "starttls" (RFC 3207), "tls" from the first byte (RFC 8314), or "none".
        ca: PEM file that the server's certificate is verified with; None: the system's.
        user: Name for the login; with it goes `password_file`.
        password_file: File with the password.
    """

    smtp: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    sender: Address
    to: Annotated[list[Address], Field(min_length=1)]

    @model_validator(mode="after")
    def _login_is_whole(self) -> MailChannel:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("`user` and `password_file` are given together or not at all")
        if self.user is not None and self.security == "none":
            raise ValueError("a password would travel in plain text: set `security`")
        return self

    @property
    def at_port(self) -> int:
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]


class WebhookChannel(Strict):
    """A POST of JSON, as chat programs take it.

    Attributes:
        webhook: Its address.
        url_file: File with the address, where the address itself is a secret.
        style: "slack", "teams" (an adaptive card), or "plain" (all fields, for programs).
        token_file: File with a bearer token.
        ca: PEM file that the server's certificate is verified with; None: the system's.
    """

    webhook: Annotated[str, AfterValidator(_web_address)] | None = None
    url_file: Path | None = None
    style: Literal["slack", "teams", "plain"] = "slack"
    token_file: Path | None = None
    ca: Path | None = None

    @model_validator(mode="after")
    def _one_address(self) -> WebhookChannel:
        if (self.webhook is None) == (self.url_file is None):
            raise ValueError("give either `webhook` or `url_file`")
        return self


class SyslogChannel(Strict):
    """Syslog messages (RFC 5424).

    Attributes:
        syslog: Host of the receiver.
        port: Default: 6514 by TLS, 514 otherwise.
        transport: "tls" (RFC 5425), "tcp" (octet counting, RFC 6587) or "udp" (RFC 5426).
        ca: PEM file that the receiver's certificate is verified with; None: the system's.
        certificate: PEM file with our certificate, for a receiver that asks for one.
        key: PEM file with its private key, not encrypted.
    """

    syslog: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    transport: Literal["tls", "tcp", "udp"] = "tls"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> SyslogChannel:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` are given together or not at all")
        if self.transport != "tls" and (self.ca or self.certificate):
            raise ValueError("`ca` and `certificate` belong to `transport: tls`")
        return self

    @property
    def at_port(self) -> int:
        return self.port or (6514 if self.transport == "tls" else 514)


def _kind(value: Any) -> str | None:
    def has(key: str) -> bool:
        if isinstance(value, dict):
            return key in value
        return getattr(value, key, None) is not None

    if isinstance(value, MailChannel) or has("smtp"):
        return "mail"
    if isinstance(value, SyslogChannel) or has("syslog"):
        return "syslog"
    return "webhook"


CHANNEL_KINDS: dict[str, type[Strict]] = {
    "mail": MailChannel,
    "webhook": WebhookChannel,
    "syslog": SyslogChannel,
}
"""What a channel may be: one with `smtp` is e-mail, one with `syslog` syslog."""

AnyChannel = Annotated[
    Annotated[MailChannel, Tag("mail")]
    | Annotated[WebhookChannel, Tag("webhook")]
    | Annotated[SyslogChannel, Tag("syslog")],
    Discriminator(_kind),
]


class RuleSection(Strict):
    """What a site changes of a rule.

    Attributes:
        enabled: Whether the rule is looked at.
        for_minutes: It must hold for so long before anybody is told.
        limit: What it is measured against; the unit is the rule's own.
        repeat_hours: It is told again while it holds, so often; 0: never.
        send_to: The channels that are told; default: all.
    """

    enabled: bool = True
    for_minutes: float | None = Field(default=None, ge=0)
    limit: float | None = Field(default=None, gt=0)
    repeat_hours: float | None = Field(default=None, ge=0)
    send_to: OneOrMore | None = None


class AlertsSection(Strict):
    """What is watched, and who is told.

    Attributes:
        every_seconds: How often the rules are looked at.
        repeat_hours: An alert is told again while it holds, so often; 0: never.
        ask_peers_minutes: How often the peers that get reports are asked whether they are there;
            0: never.
    """

    every_seconds: float = Field(default=30, gt=0)
    repeat_hours: float = Field(default=24, ge=0)
    ask_peers_minutes: float = Field(default=5, ge=0)
    channels: dict[str, AnyChannel] = Field(default_factory=dict)
    rules: dict[AlertRule, RuleSection] = Field(default_factory=dict)

    def enabled(self, rule: AlertRule) -> bool:
        return self._of(rule).enabled

    def limit(self, rule: AlertRule) -> float:
        """What a rule is measured against, in its own unit."""
        own = self._of(rule).limit
        return (DEFAULTS[rule].limit or 0) if own is None else own

    def holds_for(self, rule: AlertRule) -> timedelta:
        own = self._of(rule).for_minutes
        return timedelta(minutes=DEFAULTS[rule].for_minutes if own is None else own)

    def repeat_after(self, rule: AlertRule) -> timedelta | None:
        own = self._of(rule).repeat_hours
        hours = self.repeat_hours if own is None else own
        return timedelta(hours=hours) if hours else None

    def told(self, rule: AlertRule) -> list[str]:
        """The names of the channels that a rule's messages go to."""
        own = self._of(rule).send_to
        return list(self.channels) if own is None else own

    def _of(self, rule: AlertRule) -> RuleSection:
        return self.rules.get(rule, RuleSection())

    @model_validator(mode="after")
    def _channels_are_there(self) -> AlertsSection:
        for rule, section in self.rules.items():
            for name in section.send_to or ():
                if name not in self.channels:
                    known = ", ".join(self.channels) or "none"
                    raise ValueError(f"rule {rule} names the channel `{name}`, known are: {known}")
        return self


class AuditSection(SyslogChannel):
    """The site's audit record repository (PS3.15 A.5), by syslog.

    Attributes:
        source: How we call ourselves there (Audit Source ID); default: our first AE title.
        site: The enterprise site that it is of.
    """

    source: str | None = Field(default=None, min_length=1, max_length=64)
    site: str | None = Field(default=None, min_length=1, max_length=64)


def file_keys(section: Strict) -> list[str]:
    """Return the keys of a channel that name a file."""
    names = ("ca", "certificate", "key", "password_file", "url_file", "token_file")
    return [name for name in names if name in type(section).model_fields]

"""The channels: e-mail, webhook, syslog. Each tries once, within seconds, and says why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from dicom_node import syslog
from dicom_node.alerts.mail import Mail
from dicom_node.alerts.notes import Notice
from dicom_node.alerts.webhook import Webhook
from dicom_node.config.watching import AnyChannel, MailChannel, SyslogChannel
from dicom_node.model.alerts import Change, Severity

_LEVELS: Final = {
    Severity.CRITICAL: syslog.Level.CRITICAL,
    Severity.WARNING: syslog.Level.WARNING,
}


class Channel(Protocol):
    """Takes a message."""

    def send(self, notice: Notice) -> None:
        """Send it.

        Raises:
            NodeError: It was not taken.
        """


@dataclass(frozen=True, slots=True)
class Syslog:
    """One line of syslog for each message."""

    receiver: syslog.Receiver

    def send(self, notice: Notice) -> None:
        quiet = notice.change in (Change.RECOVERED, Change.TEST)
        level = syslog.Level.NOTICE if quiet else _LEVELS[notice.severity]
        text = " ".join((f"{notice.title}:", *notice.lines))
        line = syslog.message(syslog.Facility.DAEMON, level, notice.since, "alert", text)
        syslog.send(self.receiver, [line])


def channel_of(section: AnyChannel) -> Channel:
    """Return the channel that a section of node.yaml describes."""
    if isinstance(section, MailChannel):
        return Mail(section)
    if isinstance(section, SyslogChannel):
        return Syslog(receiver_of(section))
    return Webhook(section)


def receiver_of(section: SyslogChannel) -> syslog.Receiver:
    """Return the receiver that a section of node.yaml describes."""
    return syslog.Receiver(
        section.syslog,
        section.at_port,
        section.transport,
        section.ca,
        section.certificate,
        section.key,
    )


def where(section: AnyChannel) -> str:
    """Say where a channel leads; an address that is a secret is not told."""
    if isinstance(section, MailChannel):
        return f"e-mail to {', '.join(section.to)} by {section.smtp}:{section.at_port}"
    if isinstance(section, SyslogChannel):
        return f"syslog to {section.syslog}:{section.at_port} by {section.transport}"
    file: Path | None = section.url_file
    return f"webhook ({section.style}) of {Webhook(section).host if file is None else file}"

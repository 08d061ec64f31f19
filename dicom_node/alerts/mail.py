"""E-mail by SMTP."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Final

from dicom_node.alerts.notes import Notice
from dicom_node.config.watching import MailChannel
from dicom_node.errors import NodeError
from dicom_node.model.peers import PeerTls
from dicom_node.requestor import client_context, tls_trouble
from dicom_node.secret import secret_of

_TIMEOUT: Final = 15.0
_FIX: Final = "check `smtp`, `port`, `security` and the login with the mail server's people"


class Mail:
    """Sends a message as a plain text e-mail."""

    def __init__(self, section: MailChannel) -> None:
        self._section = section

    def send(self, notice: Notice) -> None:
        """Send it to all addresses.

        Raises:
            NodeError: The server cannot be reached, or refuses the login or an address.
        """
        section = self._section
        what = f"mail server {section.smtp}:{section.at_port}"
        password = secret_of(section.password_file) if section.password_file else ""
        try:
            with closing(self._connect()) as server:
                if section.user is not None:
                    server.login(section.user, password)
                refused = server.send_message(_mail(section, notice))
                server.quit()
        except smtplib.SMTPServerDisconnected:
            raise NodeError(what, "it broke off the connection", _FIX) from None
        except smtplib.SMTPAuthenticationError as error:
            why = f"it refuses the login of {section.user} (code {error.smtp_code})"
            raise NodeError(what, why, _FIX) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = {str(code) for code, _ in error.recipients.values()}
            why = f"it refuses every address (code {', '.join(sorted(codes))})"
            raise NodeError(what, why, _FIX) from None
        except smtplib.SMTPResponseException as error:
            raise NodeError(what, f"it answers with code {error.smtp_code}", _FIX) from None
        except smtplib.SMTPException as error:
            why = str(error) if isinstance(error, smtplib.SMTPNotSupportedError) else ""
            raise NodeError(what, why or type(error).__name__, _FIX) from None
        except ssl.SSLError as error:
            raise NodeError(what, tls_trouble(error, PeerTls(ca=section.ca)), _FIX) from None
        except OSError as error:
            timed_out = isinstance(error, TimeoutError)
            why = "it does not answer in time" if timed_out else error.strerror or "no connection"
            raise NodeError(what, why, _FIX) from None
        except UnicodeError:  # its text would quote the password
            why = "the login or an address has a character that is not ASCII"
            raise NodeError(what, why, "mail servers take no other") from None
        if refused:
            raise NodeError(what, f"it refuses {', '.join(sorted(refused))}", _FIX)

    def _connect(self) -> smtplib.SMTP:
        section = self._section
        if section.security == "none":
            return smtplib.SMTP(section.smtp, section.at_port, timeout=_TIMEOUT)
        context = client_context(PeerTls(ca=section.ca))
        if section.security == "tls":
            return smtplib.SMTP_SSL(
                section.smtp, section.at_port, timeout=_TIMEOUT, context=context
            )
        server = smtplib.SMTP(section.smtp, section.at_port, timeout=_TIMEOUT)
        try:
            # raises when the server does not offer it: nothing is sent in plain text then
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server


def _mail(section: MailChannel, notice: Notice) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = notice.title
    mail["From"] = section.sender
    mail["To"] = ", ".join(section.to)
    # not of what it tells: a reminder would be sorted to where nobody looks
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain=section.sender.rpartition("@")[2])
    # no answer from the holiday assistants (RFC 3834)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join(notice.lines) + "\n")
    return mail

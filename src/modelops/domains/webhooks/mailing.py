"""E-mail by the server that the settings name. Credentials are sent over TLS only, unless the server is this machine."""

import smtplib
import ssl
import time
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

from modelops.contracts.errors import InvalidInput
from modelops.contracts.events import Event
from modelops.contracts.settings import Settings
from modelops.domains.webhooks.rules import read_recipients
from modelops.domains.webhooks.sending import TIMEOUT_S, Reply
from modelops.domains.webhooks.wording import details, headline

_SENT = 250
_HERE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class MailServer:
    """Where e-mail is handed in. `sealed`: TLS from the first byte on."""

    host: str
    port: int
    sealed: bool
    user: str
    password: str
    sender: str


def read_mail_server(settings: Settings) -> MailServer:
    """Return the server of the settings.

    Raises:
        InvalidInput: none is named, or not in the form of an address.
    """
    text = settings.smtp_url.get_secret_value() if settings.smtp_url else ""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("smtp", "smtps"):
        raise InvalidInput(
            "No server is named that e-mail could be sent by.",
            hint="Whoever runs the platform names it: MODELOPS_SMTP_URL=smtp://user:password@host:587",
        )
    sealed = parts.scheme == "smtps"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return MailServer(host, port or (465 if sealed else 587), sealed, user, password, settings.smtp_from)


def mail(settings: Settings, url: str, delivery: str, body: bytes) -> Reply:
    """Send an event by e-mail and return what came of it; never raises for what a server does.

    Args:
        settings: They name the server.
        url: `mailto:…`.
        delivery: The id of the message, the same at each attempt.
        body: The event in JSON.
    """
    began = time.monotonic()
    try:
        server = read_mail_server(settings)
        message = _written(server, read_recipients(url), delivery, Event.model_validate_json(body))
        with _connected(server) as session:
            refused = session.send_message(message)
    except InvalidInput as wrong:
        return Reply(None, wrong.detail, _since(began))
    except smtplib.SMTPResponseException as wrong:
        return Reply(
            wrong.smtp_code, f"The mail server answered {wrong.smtp_code}: {_text(wrong.smtp_error)}", _since(began)
        )
    except (smtplib.SMTPException, OSError, ValueError) as wrong:
        return Reply(None, f"{type(wrong).__name__}: {str(wrong)[:300]}", _since(began))
    if refused:
        return Reply(None, f"The mail server refused {', '.join(refused)[:300]}.", _since(began))
    return Reply(_SENT, None, _since(began))


def _connected(server: MailServer) -> smtplib.SMTP:
    trust = ssl.create_default_context()
    if server.sealed:
        session: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=trust)
    else:
        session = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
    try:
        session.ehlo()
        safe = server.sealed or server.host in _HERE
        if not server.sealed and session.has_extn("starttls"):
            session.starttls(context=trust)
            safe = True
        if server.user:
            if not safe:
                raise InvalidInput("The mail server offers no TLS, so the password is not sent.", hint="Use smtps://.")
            session.login(server.user, server.password)
    except BaseException:
        session.close()
        raise
    return session


def _written(server: MailServer, recipients: list[str], delivery: str, event: Event) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = headline(event)
    message["From"] = server.sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(event.time)
    message["Message-ID"] = f"<{delivery}@modelops>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join([headline(event), "", *details(event), ""]))
    return message


def _text(answer: bytes | str) -> str:
    return (answer.decode(errors="replace") if isinstance(answer, bytes) else answer)[:300]


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1e3, 3)

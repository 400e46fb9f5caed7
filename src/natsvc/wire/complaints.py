"""What the server's -ERR lines mean: its words are all there is, for they carry no number.

Most of them are a farewell: the server closes the connection right after. Some are not, and concern one command only.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from natsvc.errors import AuthorizationError, NatsvcError, PermissionsError, ServerError
from natsvc.wire.values import Value

__all__ = ["Complaint", "Meaning", "read_complaint"]

# Texts, which are compiled when the first complaint comes: most programs never get one.
_AUTHENTICATION = r"authorization violation|(user|account) authentication (expired|revoked)"
_PERMISSION = (
    r"permissions violation for (?P<operation>publish|subscription)(?: to| with reply of) "
    r'"(?P<subject>.*?)"(?: using queue "(?P<queue>.*?)")?(?: \(sid "(?P<sid>[0-9]{1,18})"\))?$'
)


class Meaning(enum.Enum):
    """What follows from a complaint."""

    CREDENTIALS = "the credentials are not accepted, or no longer"
    PUBLICATION = "a message was not published"
    SUBSCRIPTION = "one subscription, which is named, does not exist"
    TOO_MANY_SUBSCRIPTIONS = "one subscription, which is not named, does not exist"
    HARMLESS = "a command had no effect"
    FAREWELL = "the server is about to close the connection"


class Complaint(Value):
    """A complaint of the server.

    Attributes:
        meaning: What follows from it.
        error: What the user is told.
        subject: The subject of the refused publication or subscription.
        queue_group: The subscription's queue group, "" for none.
        sid: The subscription's number; 0 if it isn't named by that, as it is when permissions were changed afterwards.
    """

    __slots__ = ("error", "meaning", "queue_group", "sid", "subject")

    def __init__(
        self, meaning: Meaning, error: NatsvcError, subject: str = "", queue_group: str = "", sid: int = 0
    ) -> None:
        self.meaning = meaning
        self.error = error
        self.subject = subject
        self.queue_group = queue_group
        self.sid = sid


_KNOWN: Final = {
    "maximum subscriptions exceeded": Meaning.TOO_MANY_SUBSCRIPTIONS,
    "invalid subject": Meaning.HARMLESS,
    "invalid publish subject": Meaning.HARMLESS,
}


def read_complaint(text: str) -> Complaint:
    """Return what the text of an -ERR line means."""
    if re.search(_AUTHENTICATION, text, re.IGNORECASE):
        return Complaint(Meaning.CREDENTIALS, AuthorizationError(text))
    permission = re.search(_PERMISSION, text, re.IGNORECASE)
    if permission is None:
        return Complaint(_KNOWN.get(text.lower(), Meaning.FAREWELL), ServerError(text))
    operation, subject = permission["operation"].lower(), permission["subject"]
    error = PermissionsError(operation, subject)
    if operation == "publish":
        return Complaint(Meaning.PUBLICATION, error, subject)
    return Complaint(Meaning.SUBSCRIPTION, error, subject, permission["queue"] or "", int(permission["sid"] or 0))

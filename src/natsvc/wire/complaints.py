"""What the server's -ERR lines mean: its words are all there is, for they carry no number.

Most of them are a farewell: the server closes the connection right after. Some are not, and concern one command only.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from natsvc.errors import AuthorizationError, NatsvcError, PermissionsError, ServerError

__all__ = ["Complaint", "Meaning", "read_complaint"]

_AUTHENTICATION = re.compile(
    r"authorization violation|(user|account) authentication (expired|revoked)",
    re.IGNORECASE,
)
_PERMISSION = re.compile(
    r"permissions violation for (?P<operation>publish|subscription)(?: to| with reply of) "
    r'"(?P<subject>.*?)"(?: using queue "(?P<queue>.*?)")?(?: \(sid "(?P<sid>[0-9]{1,18})"\))?$',
    re.IGNORECASE,
)


class Meaning(enum.Enum):
    """What follows from a complaint."""

    CREDENTIALS = "the credentials are not accepted, or no longer"
    PUBLICATION = "a message was not published"
    SUBSCRIPTION = "one subscription, which is named, does not exist"
    TOO_MANY_SUBSCRIPTIONS = "one subscription, which is not named, does not exist"
    HARMLESS = "a command had no effect"
    FAREWELL = "the server is about to close the connection"


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint of the server.

    Attributes:
        meaning: What follows from it.
        error: What the user is told.
        subject: The subject of the refused publication or subscription.
        queue_group: The subscription's queue group, "" for none.
        sid: The subscription's number; 0 if it isn't named by that, as it is when permissions were changed afterwards.
    """

    meaning: Meaning
    error: NatsvcError
    subject: str = ""
    queue_group: str = ""
    sid: int = 0


_KNOWN: Final = {
    "maximum subscriptions exceeded": Meaning.TOO_MANY_SUBSCRIPTIONS,
    "invalid subject": Meaning.HARMLESS,
    "invalid publish subject": Meaning.HARMLESS,
}


def read_complaint(text: str) -> Complaint:
    """Return what the text of an -ERR line means."""
    if _AUTHENTICATION.search(text):
        return Complaint(Meaning.CREDENTIALS, AuthorizationError(text))
    permission = _PERMISSION.search(text)
    if permission is None:
        return Complaint(_KNOWN.get(text.lower(), Meaning.FAREWELL), ServerError(text))
    operation, subject = permission["operation"].lower(), permission["subject"]
    error = PermissionsError(operation, subject)
    if operation == "publish":
        return Complaint(Meaning.PUBLICATION, error, subject)
    return Complaint(Meaning.SUBSCRIPTION, error, subject, permission["queue"] or "", int(permission["sid"] or 0))

"""What a server means by its -ERR lines. The texts are those of nats-server (server/errors.go, client.go, auth.go)."""

from __future__ import annotations

import pytest

from natsvc.errors import AuthorizationError, PermissionsError, ServerError
from natsvc.wire.complaints import Meaning, read_complaint


@pytest.mark.parametrize(
    "text",
    [
        "Authorization Violation",
        "User Authentication Expired",
        "User Authentication Revoked",
        "Account Authentication Expired",
        "authorization violation",
    ],
)
def test_credentials_that_are_not_accepted(text: str) -> None:
    complaint = read_complaint(text)
    assert complaint.meaning is Meaning.CREDENTIALS
    assert isinstance(complaint.error, AuthorizationError)
    assert str(complaint.error) == text


@pytest.mark.parametrize(
    ("text", "subject", "queue_group"),
    [
        ('Permissions Violation for Subscription to "a.b"', "a.b", ""),
        ('Permissions Violation for Subscription to "A.*" using queue "Q"', "A.*", "Q"),
        ('Permissions Violation for Subscription to "a"b"', 'a"b', ""),
    ],
)
def test_a_refused_subscription(text: str, subject: str, queue_group: str) -> None:
    complaint = read_complaint(text)
    assert complaint.meaning is Meaning.SUBSCRIPTION
    assert (complaint.subject, complaint.queue_group) == (subject, queue_group)
    assert isinstance(complaint.error, PermissionsError)
    assert (complaint.error.operation, complaint.error.subject) == ("subscription", subject)


def test_a_subscription_that_new_permissions_end_is_named_by_its_number() -> None:
    complaint = read_complaint('Permissions Violation for Subscription to "a.b" (sid "17")')
    assert complaint.meaning is Meaning.SUBSCRIPTION
    assert (complaint.subject, complaint.sid) == ("a.b", 17)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ('Permissions Violation for Publish to "a.b"', "a.b"),
        ('Permissions Violation for Publish with Reply of "r.s"', "r.s"),
    ],
)
def test_a_refused_publication(text: str, subject: str) -> None:
    complaint = read_complaint(text)
    assert complaint.meaning is Meaning.PUBLICATION
    assert isinstance(complaint.error, PermissionsError)
    assert (complaint.error.operation, complaint.error.subject) == ("publish", subject)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("maximum subscriptions exceeded", Meaning.TOO_MANY_SUBSCRIPTIONS),
        ("Invalid Subject", Meaning.HARMLESS),
        ("Invalid Publish Subject", Meaning.HARMLESS),
        ("Maximum Payload Violation", Meaning.FAREWELL),
        ("Stale Connection", Meaning.FAREWELL),
        ("Authentication Timeout", Meaning.FAREWELL),  # a handshake that took too long says nothing of credentials
        ("Permissions Violation for Something Else", Meaning.FAREWELL),
        ("", Meaning.FAREWELL),
    ],
)
def test_everything_else(text: str, meaning: Meaning) -> None:
    complaint = read_complaint(text)
    assert complaint.meaning is meaning
    assert isinstance(complaint.error, ServerError)

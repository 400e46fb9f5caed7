"""Keys, JWTs and .creds files of an operator, an account and its users, as `nsc` would make them.

A JWT of NATS is an ordinary one, signed with an nkey ("ed25519-nkey", version 2 of the claims). A server that is told
whom it trusts, the operator, needs nothing else: the account's JWT is in its configuration.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

import nkeys  # type: ignore[import-untyped]

__all__ = ["Account", "Key", "Operator", "User"]


class Key:
    """An nkey: its public half says what it is the key of.

    Attributes:
        seed: The private half, as text.
        public: The public half, as text.
    """

    def __init__(self, prefix: int) -> None:
        seed = nkeys.encode_seed(secrets.token_bytes(32), prefix)
        self._pair = nkeys.from_seed(seed)
        self.seed: str = seed.decode()
        self.public: str = self._pair.public_key.decode()

    @classmethod
    def of_user(cls) -> Key:
        """Make the key of a user."""
        return cls(nkeys.PREFIX_BYTE_USER)

    def sign_claims(self, subject: str, claims: dict[str, Any], *, name: str, expires: int | None = None) -> str:
        """Return a JWT about the subject, issued by this key.

        Args:
            subject: The public key that the claims are about.
            claims: The part that is NATS's own.
            name: A name for people to read.
            expires: When it ends, in seconds since 1970. Default: never.
        """
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {**claims, "version": 2},
        }
        if expires is not None:
            body["exp"] = expires
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(body)}"
        return f"{signed}.{_base64url(self._pair.sign(signed.encode()))}"


class User:
    """A user of an account.

    Attributes:
        key: The user's nkey.
        jwt: What the account says about it.
        creds: Both, as the content of a .creds file.
    """

    def __init__(self, key: Key, jwt: str) -> None:
        self.key = key
        self.jwt = jwt
        self.creds = (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n"
            "NKEYs are sensitive and should be treated as secrets.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n\n"
            "*************************************************************\n"
        )

    @property
    def secrets(self) -> tuple[str, str]:
        """What nobody may see."""
        return self.key.seed, self.jwt


class Account:
    """An account, whose users may do anything unless they are made with permissions.

    Attributes:
        key: The account's nkey.
    """

    def __init__(self) -> None:
        self.key = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._revocations: dict[str, int] = {}

    @property
    def claims(self) -> dict[str, Any]:
        """What the operator signs: no limits, and who is revoked."""
        no_limit = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        return {"type": "account", "limits": no_limit | {"wildcards": True}, "revocations": dict(self._revocations)}

    def user(self, *, expires: int | None = None, permissions: dict[str, Any] | None = None) -> User:
        """Make a user.

        Args:
            expires: When its JWT ends, in seconds since 1970. Default: never.
            permissions: Such as `{"pub": {"deny": ["secret.>"]}}`. Default: anything is allowed.
        """
        key = Key.of_user()
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1, **(permissions or {})}
        return User(key, self.key.sign_claims(key.public, claims, name="user", expires=expires))

    def revoke(self, user: User) -> None:
        """Take back what was issued to the user; it counts once the server has the account's new JWT."""
        self._revocations[user.key.public] = int(time.time()) + 1


class Operator:
    """An operator with one account."""

    def __init__(self) -> None:
        self.key = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self.account = Account()
        # Once only: the time of issue is in it, and a reload refuses an operator that has changed.
        self._jwt = self.key.sign_claims(self.key.public, {"type": "operator"}, name="operator")

    def server_config(self) -> str:
        """Return the configuration of a server that trusts this operator, with the account as it is now."""
        account = self.key.sign_claims(self.account.key.public, self.account.claims, name="account")
        return f"""
            operator: {self._jwt}
            resolver: MEMORY
            resolver_preload: {{ {self.account.key.public}: {account} }}
        """


def _encoded(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

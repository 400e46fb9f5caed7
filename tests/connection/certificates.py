"""The keys and certificates of a small private world, made anew for each run of the tests.

Nothing of it is in the repository, for a certificate in a repository is one that expires some day.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from natsvc.testing import ServerTLS

__all__ = ["WRONG_HOST", "Certificates"]

WRONG_HOST = "elsewhere.example"
"""The host that the wrong certificate is for."""


@dataclass(frozen=True)
class Certificates:
    """An authority, what it has signed, and an authority that nobody knows. All attributes are PEM files.

    Attributes:
        authority: The certificate of the authority.
        unknown_authority: The certificate of another, which has signed none of the others.
        server: Certificate and key of a server on 127.0.0.1 and localhost.
        name_only: Certificate and key of a server on localhost, which is not good for its address.
        wrong_host: Certificate and key of a server on WRONG_HOST.
        client: Certificate and key of a client.
    """

    authority: Path
    unknown_authority: Path
    server: Path
    name_only: Path
    wrong_host: Path
    client: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Make them all in this directory."""
        authority, unknown = trustme.CA(), trustme.CA()
        made = {
            "authority": authority.cert_pem,
            "unknown_authority": unknown.cert_pem,
            "server": authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem,
            "name_only": authority.issue_cert("localhost").private_key_and_cert_chain_pem,
            "wrong_host": authority.issue_cert(WRONG_HOST).private_key_and_cert_chain_pem,
            "client": authority.issue_cert("client@natsvc.example").private_key_and_cert_chain_pem,
        }
        paths = {name: directory / f"{name}.pem" for name in made}
        for name, blob in made.items():
            blob.write_to_path(paths[name])
        return cls(**paths)

    def server_tls(
        self, *, certificate: Path | None = None, verify: bool = False, handshake_first: bool = False
    ) -> ServerTLS:
        """Return the TLS of a nats-server that trusts clients of this authority.

        Args:
            certificate: Certificate and key in one file. Default: `self.server`.
            verify: Whether clients must show a certificate.
            handshake_first: Whether TLS comes before INFO.
        """
        return ServerTLS(certificate or self.server, ca=self.authority, verify=verify, handshake_first=handshake_first)

    def context(self, *, authority: Path | None = None, client: bool = False) -> ssl.SSLContext:
        """Return the context of a client.

        Args:
            authority: Whom it trusts. Default: `self.authority`.
            client: Whether it has a certificate to show.
        """
        context = ssl.create_default_context(cafile=str(authority or self.authority))
        if client:
            context.load_cert_chain(str(self.client))
        return context

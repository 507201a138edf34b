"""Certificates of a cluster that lives as long as one search: made for it, held in memory, and good whatever the clock says."""

from __future__ import annotations

import datetime
from typing import Any

# A clock that is set right while a search goes on, backwards above all, must not make its workers refuse each other; the later one
# stands for "no end" (RFC 5280, 4.1.2.5).
VALID_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
VALID_UNTIL = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def make_security() -> Any:
    """Return Dask's `Security` with a new key and a certificate that only its holders trust.

    Dask's own `Security.temporary` makes one that is valid from this second on.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from distributed import Security

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "naxcli")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .sign(key, hashes.SHA256())
    )
    shown = certificate.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return Security(
        require_encryption=True,
        tls_ca_file=shown,
        tls_client_cert=shown,
        tls_client_key=secret,
        tls_scheduler_cert=shown,
        tls_scheduler_key=secret,
        tls_worker_cert=shown,
        tls_worker_key=secret,
    )

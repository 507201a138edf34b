"""Certificates of a search's own cluster."""

from __future__ import annotations

from cryptography import x509

from naxcli.workers.certificates import make_security


def test_a_certificate_holds_whatever_the_clock_is_set_to() -> None:
    certificate = x509.load_pem_x509_certificate(make_security().tls_ca_file.encode())
    assert certificate.not_valid_before_utc.year == 1970
    assert certificate.not_valid_after_utc.year == 9999


def test_no_two_searches_share_a_key() -> None:
    assert make_security().tls_worker_key != make_security().tls_worker_key

"""The Dask scheduler of a cluster that a user names: whether it can be reached, and a client of it."""

from __future__ import annotations

import socket
import urllib.parse
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.settings.connection import Connection
from naxcli.workers.slurm import read_settings

CONNECT_SECONDS = 10.0


def connect(connection: Connection) -> Any:
    """Return a client of the scheduler.

    Raises:
        NaxcliError: If nobody answers, or the certificates cannot be used.
    """
    from distributed import Client

    security = _client_security(connection) if connection.is_encrypted else None
    require_cluster(connection)
    try:
        return Client(connection.address, security=security, set_as_default=False, timeout="30s")
    except (OSError, TimeoutError) as error:
        raise _nobody_answers(connection.address, error) from error


def _client_security(connection: Connection) -> Any:
    """Return the certificates that a client shows and trusts: the files that were named, else those of Dask's configuration.

    Raises:
        NaxcliError: If there are none, or they cannot be used.
    """
    import dask
    from distributed import Security

    named = {
        "tls_ca_file": connection.tls_ca_file,
        "tls_client_cert": connection.tls_cert,
        "tls_client_key": connection.tls_key,
    }
    files = {name: file for name, file in named.items() if file is not None}
    if not files and dask.config.get("distributed.client.security-loader"):
        return None  # the client asks it
    security = Security(require_encryption=True, **files)
    if security.tls_ca_file is None or security.tls_client_cert is None:
        raise NaxcliError(
            f"{connection.address} needs certificates",
            why="over TLS both sides show one that the other's authority has signed",
            hint="--tls-ca-file, --tls-cert and --tls-key name them, or Dask's configuration distributed.comm.tls",
        )
    try:
        security.get_connection_args("client")
    except OSError as error:
        raise NaxcliError(f"the certificates for {connection.address} cannot be used", why=str(error)) from error
    return security


def require_cluster(connection: Connection) -> None:
    """Check what can be checked of a cluster at once, before anything is written or started for it.

    Raises:
        NaxcliError: If nobody listens at the address (Dask would try again for half a minute), or the SLURM file is wrong.
    """
    if connection.is_slurm:
        read_settings(connection.address)
        return
    parts = urllib.parse.urlsplit(connection.address)
    if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise _nobody_answers(connection.address, error) from error


def _nobody_answers(address: str, error: Exception) -> NaxcliError:
    return NaxcliError(
        f"no Dask scheduler answers at {address}",
        why=str(error) or type(error).__name__,
        hint="start one with dask scheduler, and name it as it does, with tcp:// or tls://",
    )

"""Connection: how the workers of a cluster are reached, and whether anyone else could get in."""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from naxcli.errors import NaxcliError

SLURM_PREFIX = "slurm:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A cluster by its address, and what this side shows and trusts there.

    Args:
        address: Address of a running Dask scheduler, `tls://HOST:PORT` or `tcp://HOST:PORT`, or `slurm:FILE`.
        tls_ca_file: Certificate of the authority that has signed the scheduler's.
        tls_cert: This side's own certificate.
        tls_key: Private key, where it is not in the certificate's file.
        insecure: Whether an address without TLS may be on another machine.
    """

    address: str
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure: bool = False

    @property
    def is_slurm(self) -> bool:
        return self.address.startswith(SLURM_PREFIX)

    @property
    def is_encrypted(self) -> bool:
        return self.address.startswith("tls://")

    def require_safe(self) -> None:
        """Refuse to speak to another machine without encryption, and TLS files that are not there or would do nothing.

        Raises:
            NaxcliError: with the reason.
        """
        if self.is_slurm:
            return
        named = [file for file in (self.tls_ca_file, self.tls_cert, self.tls_key) if file is not None]
        if named and not self.is_encrypted:
            raise NaxcliError(
                f"{self.address} is reached without TLS",
                why=f"the certificates ({', '.join(named)}) would not be used",
                hint=f"--cluster tls://{self.address.partition('://')[2]}, or leave out the certificates",
            )
        for file in named:
            if not Path(file).is_file():
                raise NaxcliError(f"there is no file {file}", why=f"it was named for TLS to {self.address}")
        if not (self.is_encrypted or self.insecure or _is_loopback(self.address)):
            raise NaxcliError(
                f"{self.address} is another machine, and its address one without TLS",
                why="whoever reaches a Dask scheduler without TLS runs code as you on every worker and here",
                hint="start scheduler and workers with certificates and name tls://HOST:PORT (docs/clusters.md); --insecure takes "
                "the risk, in a network where nobody else can connect",
            )


def _is_loopback(address: str) -> bool:
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

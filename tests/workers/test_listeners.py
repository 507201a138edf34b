"""Nobody but the search itself gets into its processes: where they listen, whom they answer, and what they leave readable."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Security

from tests.command_line import ENVIRONMENT, start
from tests.conftest import TINY_SPACE

NUM_WORKERS = 2
NOBODY = 65534
KEY_MARK = b"PRIVATE KEY-----"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the search runs; its temporary folder, `tmp`, another user has prepared."""
    folder = tmp_path_factory.mktemp("listeners")
    (folder / "tmp" / "dask-scratch-space").mkdir(parents=True)
    (folder / "tmp" / "dask-scratch-space").chmod(0o777)
    (folder / "slow.py").write_text(TINY_SPACE.replace("SLEEP_SECONDS = 0.0", "SLEEP_SECONDS = 0.2"))
    return folder


@pytest.fixture(scope="module")
def search(folder: Path) -> Iterator[list[psutil.Process]]:
    """The processes of a search that has started its workers, and goes on."""
    arguments = ["--space", folder / "slow.py", "--trials", "100000", "--run", folder / "run", "--searcher", "random"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, "TMPDIR", str(folder / "tmp"))
        process = start("search", *arguments, "--workers", str(NUM_WORKERS))
    try:
        deadline = time.monotonic() + 200
        while not (folder / "run" / "trials.parquet").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.2)
        first = psutil.Process(process.pid)
        yield [first, *first.children(recursive=True)]
    finally:
        process.kill()
        process.communicate()


def listening(processes: list[psutil.Process]) -> list[Any]:
    """Return the addresses at which processes take connections or datagrams."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = process.net_connections(kind="inet")
            found += [item.laddr for item in connections if item.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)]
    return found


def is_answered(port: int, context: ssl.SSLContext | None) -> bool:
    """Return whether who connects without TLS (None), or with this side of it, gets an answer of the application."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        connection = plain if context is None else context.wrap_socket(plain)
        connection.sendall(b"\0" * 64)
        answer = connection.recv(2)
        return bool(answer) and answer != b"\x15\x03"  # an alert: TLS itself refuses
    return False


def ways_in(ports: list[int], contexts: dict[str, ssl.SSLContext | None]) -> list[str]:
    return [
        f"{port} answers {name}" for port in ports for name, context in contexts.items() if is_answered(port, context)
    ]


def strangers(folder: Path) -> dict[str, ssl.SSLContext | None]:
    """Return what someone without the search's certificate may connect with."""
    without, with_other = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    for context in (without, with_other):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    other, file = Security.temporary(), folder / "other.pem"
    file.write_text(other.tls_client_key + other.tls_client_cert)
    with_other.load_cert_chain(file)
    return {"a plain connection": None, "no certificate": without, "a certificate of one's own": with_other}


def test_a_search_listens_on_loopback_only_and_answers_only_its_own_certificate(
    search: list[psutil.Process], tmp_path: Path
) -> None:
    addresses = listening(search)
    assert [address for address in addresses if address.ip != "127.0.0.1"] == []
    # One port of the scheduler, and one of each worker and its nanny: no web server.
    assert len(addresses) == 1 + 2 * NUM_WORKERS
    assert ways_in([address.port for address in addresses], strangers(tmp_path)) == []


def test_a_port_without_tls_would_be_noticed(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", processes=False, protocol="tcp://", host="127.0.0.1"
    ) as cluster:
        port = int(cluster.scheduler_address.rpartition(":")[2])
        assert ways_in([port], strangers(tmp_path)) == [f"{port} answers a plain connection"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_does_not_get_in(search: list[psutil.Process], tmp_path: Path) -> None:
    ports = [address.port for address in listening(search)]
    contexts = strangers(tmp_path)

    def as_nobody() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os._exit(len(ways_in(ports, contexts)))

    child = multiprocessing.get_context("fork").Process(target=as_nobody)
    child.start()
    child.join(120)
    assert child.exitcode == 0 and ports


def test_no_key_is_readable_by_others_and_no_folder_of_others_is_used(
    search: list[psutil.Process], folder: Path
) -> None:
    for process in search:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            for name in ("cmdline", "environ"):
                assert KEY_MARK not in Path(f"/proc/{process.pid}/{name}").read_bytes()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if KEY_MARK in path.read_bytes()] == []
    temporary = folder / "tmp"
    assert list((temporary / "dask-scratch-space").iterdir()) == []
    (own,) = temporary.glob("naxcli-*")
    assert own.stat().st_mode & 0o777 == 0o700 and list(own.iterdir())

"""No request to what lies inside: every spelling of it, and a name whose address changes between check and use."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.net.download_file import fetch
from pipeline.net.http_client import Web
from pipeline.net.hub import HubError, Repository, Server
from pipeline.net.patience import Patience
from pipeline.net.public_address import Refused, resolve
from pipeline.net.trouble import Failed
from pipeline.net.wanted_file import Fetched, Want
from stages.sources.declaration import HubDataset
from tests.pipeline.net.hub_server import FakeHub, Fault, serving

INSIDE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1", "localhost", "LOCALHOST.",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
def test_what_lies_inside_is_refused(host: str) -> None:
    with pytest.raises(Refused, match=r"run\.allow_hosts"):
        resolve(host, 80)


@pytest.mark.parametrize("host", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_pass(host: str) -> None:
    assert resolve(host, 443) == [host]


def test_allowed_is_a_name_and_not_its_address() -> None:
    assert "127.0.0.1" in resolve("localhost", 80, {"localhost"})
    with pytest.raises(Refused):
        resolve("127.0.0.1", 80, {"localhost"})


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub()) as hub:
        hub.commit({"a": b"x" * 10})
        yield hub


def test_the_checked_address_is_the_one_connected_to(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that says "public" to the check and "loopback" to the connection: nothing may reach loopback."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            # 192.0.2.1 is for documentation and answers nobody; here it stands for a public address
            return real("192.0.2.1" if len(asked) == 1 else "127.0.0.1", *rest, **more)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr("pipeline.net.public_address.public", lambda address: address == "192.0.2.1")
    web = Web((), Patience(attempts=1, connect=0.3))
    found = fetch(Want(f"http://rebind.example:{hub.port}/plain/a"), tmp_path / "f", web)
    assert isinstance(found, Failed) and found.reason in ("timeout", "unreachable")
    assert hub.log == []
    found = fetch(Want(f"http://rebind.example:{hub.port}/plain/a"), tmp_path / "f", web)
    assert isinstance(found, Failed) and found.reason == "address_refused"
    web.close()


def test_the_host_header_keeps_the_name(hub: FakeHub, tmp_path: Path) -> None:
    web = Web(("localhost",))
    assert isinstance(fetch(Want(f"http://localhost:{hub.port}/plain/a"), tmp_path / "f", web), Fetched)
    assert [r.host for r in hub.log] == [f"localhost:{hub.port}"]
    web.close()


@pytest.mark.parametrize("url", ["ftp://x/y", "//x/y", "/x", "http://", "http://user:secret@8.8.8.8/", "http://[::1"])
def test_what_is_no_web_address_is_a_reason(url: str, tmp_path: Path) -> None:
    found = fetch(Want(url), tmp_path / "f", Web())
    assert isinstance(found, Failed) and (found.reason, found.may_heal) == ("bad_url", False)
    assert "secret" not in found.detail


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", *made, *name, "-keyout", path, "-out", path.with_suffix(".crt")], check=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def test_tls_is_checked_against_the_name_although_the_address_is_dialled(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(FakeHub(), tls) as hub:
        hub.commit({"a": b"x" * 10})
        outcomes = []
        for host, trusted in (("localhost", True), ("localhost", False), ("127.0.0.1", True)):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
            else:
                monkeypatch.delenv("SSL_CERT_FILE")
            web = Web(("localhost", "127.0.0.1"), Patience(attempts=2, first_wait=0.0, read=2.0))
            done = fetch(Want(f"https://{host}:{hub.port}/plain/a"), tmp_path / "f", web)
            outcomes.append((done.reason, done.may_heal) if isinstance(done, Failed) else "ok")
            web.close()
    assert outcomes == ["ok", ("certificate", False), ("certificate", False)]


def test_a_listing_is_not_read_from_where_https_was_left(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(FakeHub(), tls) as hub, serving(FakeHub()) as plain:
        commit = hub.commit({"a": b"x" * 10})
        plain.commit({"a": b"x" * 10})
        server = Server(f"https://localhost:{hub.port}", ("localhost", "127.0.0.1"), Patience(attempts=1))
        repository = Repository(server, server.web(), "here", HubDataset(hub.dataset, commit))
        assert [found.file for found in repository.files(commit)] == ["a"]
        away = f"{plain.endpoint}/api/datasets/{hub.dataset}/tree/{commit}"
        hub.fault("api", Fault("status", 302, {"Location": away}))
        with pytest.raises(HubError, match="leads to an address without https"):
            repository.files(commit)
        repository.web.close()

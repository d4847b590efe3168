"""One file from a server with faults: what arrives is the file, or a reason; what was fetched is not fetched again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.net.download_file import fetch
from pipeline.net.http_client import Web
from pipeline.net.patience import Patience
from pipeline.net.trouble import Failed
from pipeline.net.wanted_file import Fetched, Want
from tests.pipeline.conftest import ROOT
from tests.pipeline.net.hub_server import FakeHub, Fault, blob_sha1, serving

BIG = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(1 << 17))  # 4 MiB
SMALL = b"a few bytes\n"
NAME = "geoqa+(mathv360k), one/train 0.parquet"
QUICK = Patience(attempts=4, first_wait=0.01, longest_wait=5.0, connect=2.0, read=0.5)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub()) as hub:
        hub.commit({NAME: BIG, "README.md": SMALL, "empty": b""})
        yield hub


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(("127.0.0.1", "localhost"), QUICK)
    yield web
    web.close()


def want(hub: FakeHub, path: str = NAME, revision: str = "main") -> Want:
    data = hub.commits[hub.branches["main"]][path]
    digest = hashlib.sha256(data).hexdigest() if len(data) >= 1000 else blob_sha1(data)
    return Want(f"{hub.endpoint}/datasets/{hub.dataset}/resolve/{revision}/{quote(path)}", len(data), digest)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "partial" in path.name)


@pytest.mark.parametrize("path", [NAME, "README.md", "empty"])
def test_a_file_arrives_whole_under_its_name(path: str, hub: FakeHub, web: Web, tmp_path: Path) -> None:
    data = hub.commits[hub.branches["main"]][path]
    found = fetch(want(hub, path), tmp_path / "f", web)
    assert found == Fetched(len(data), hashlib.sha256(data).hexdigest())
    assert (tmp_path / "f").read_bytes() == data
    assert left_over(tmp_path) == []


def test_a_token_goes_to_its_origin_only(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    fetch(want(hub), tmp_path / "f", web, "hf_secret")
    assert [(r.host.split(":")[0], r.authorized) for r in hub.log] == [("127.0.0.1", True), ("localhost", False)]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut", 3_000_000)],
        [Fault("cut", 1), Fault("cut", 1_500_001), Fault("stall", 700_000)],
        [Fault("status", 503)],
        [Fault("status", 500), Fault("status", 502), Fault("status", 504)],
        [Fault("status", 429, {"Retry-After": "0"})],
        [Fault("status", 429, {"RateLimit": '"resolvers";r=0;t=0'})],
        [Fault("status", 403)],
        [Fault("cut", 2_000_000), Fault("ignore_range")],
        [Fault("cut", 2_000_000), Fault("bare")],
        [Fault("bare")],
        [Fault("wrong")],
        [Fault("cut", 100), Fault("wrong")],
    ],
    ids=lambda faults: " ".join(f"{f.kind}{f.at or ''}" for f in faults),
)
def test_faults_that_heal_leave_the_same_file(faults: list[Fault], hub: FakeHub, web: Web, tmp_path: Path) -> None:
    hub.fault(NAME, *faults)
    assert fetch(want(hub), tmp_path / "f", web) == Fetched(len(BIG), hashlib.sha256(BIG).hexdigest())
    assert (tmp_path / "f").read_bytes() == BIG
    assert left_over(tmp_path) == []


def test_after_a_cut_only_the_rest_is_asked_for(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    hub.fault(NAME, Fault("cut", 3_000_001), Fault("stall", 500_000))
    assert isinstance(fetch(want(hub), tmp_path / "f", web), Fetched)
    assert hub.sent(NAME) == len(BIG)
    ranges = [r.range for r in hub.log if r.path.startswith("/cdn")]
    assert ranges == [None, "bytes=3000001-", "bytes=3500001-"]
    assert [bool(r.if_range) for r in hub.log if r.path.startswith("/cdn")] == [False, True, True]


def test_many_cuts_with_progress_are_not_too_many(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    """More cuts than attempts, each after 1 MiB or more."""
    patient = Web(web.allowed, Patience(attempts=2, first_wait=0.0))
    hub.fault(NAME, *[Fault("cut", 1 << 20)] * 3)
    assert isinstance(fetch(want(hub), tmp_path / "f", patient), Fetched)
    assert hub.sent(NAME) == len(BIG)
    patient.close()


@pytest.mark.parametrize(
    ("faults", "reason", "may_heal", "requests"),
    [
        ([Fault("status", 404)], "not_found", False, 1),
        ([Fault("status", 401)], "forbidden", False, 1),
        ([Fault("status", 400)], "refused", False, 1),
        ([Fault("status", 503)] * 9, "server_error", True, 4),
        ([Fault("status", 429, {"Retry-After": "3600"})], "rate_limited", True, 1),
        ([Fault("cut", 10)] * 9, "cut_short", True, 4),
        ([Fault("stall", 10, {}, "2")] * 9, "timeout", True, 4),
        ([Fault("wrong")] * 9, "wrong_content", True, 2),
        ([Fault("redirect", 0, {}, "http://169.254.169.254/latest/meta-data")], "address_refused", False, 1),
        ([Fault("redirect", 0, {}, "http://[::ffff:10.0.0.1]/x")], "address_refused", False, 1),
        ([Fault("redirect", 0, {}, "file:///etc/passwd")], "bad_url", False, 1),
        ([Fault("redirect", 0, {}, "")], "refused", False, 1),
    ],
    ids=lambda value: value[0].kind + str(value[0].at or value[0].text) if isinstance(value, list) else None,
)
def test_faults_that_stay_are_a_reason(
    faults: list[Fault], reason: str, may_heal: bool, requests: int, hub: FakeHub, web: Web, tmp_path: Path
) -> None:
    hub.fault(NAME, *faults)
    found = fetch(want(hub), tmp_path / "f", web, "hf_secret")
    assert isinstance(found, Failed)
    assert (found.reason, found.may_heal) == (reason, may_heal)
    assert len([r for r in hub.log if r.path.startswith("/cdn")]) == requests
    assert "\n" not in found.detail and "ecret" not in found.detail
    assert not (tmp_path / "f").exists()


def test_a_redirect_in_circles_ends(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    place = f"{hub.endpoint}/plain/{quote(NAME)}"
    hub.fault(NAME, *[Fault("redirect", 0, {}, place)] * 30)
    found = fetch(Want(place), tmp_path / "f", web)
    assert isinstance(found, Failed) and found.reason == "redirects"


def test_a_host_that_is_not_allowed_is_never_connected_to(hub: FakeHub, tmp_path: Path) -> None:
    found = fetch(want(hub), tmp_path / "f", Web())
    assert isinstance(found, Failed) and found.reason == "address_refused"
    assert "run.allow_hosts: [127.0.0.1]" in found.detail
    found = fetch(want(hub), tmp_path / "f", Web(("127.0.0.1",)))  # the redirect's host is another
    assert isinstance(found, Failed) and "localhost" in found.detail
    assert {r.host.split(":")[0] for r in hub.log} == {"127.0.0.1"}


def test_a_server_that_is_not_there(web: Web, tmp_path: Path) -> None:
    found = fetch(Want("http://127.0.0.1:1/x"), tmp_path / "f", web)
    assert isinstance(found, Failed) and (found.reason, found.may_heal) == ("unreachable", True)
    found = fetch(Want("http://nowhere.invalid/x"), tmp_path / "f", web)
    assert isinstance(found, Failed) and (found.reason, found.may_heal) == ("unresolved", True)


def test_another_version_without_a_known_hash_starts_anew(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    """Only If-Range can tell: the rest of a new version must never be put behind the beginning of an old one."""
    place = Want(f"{hub.endpoint}/plain/{quote(NAME)}")
    hub.fault(NAME, *[Fault("cut", 1000)] * 4)
    assert isinstance(fetch(place, tmp_path / "f", web), Failed)
    hub.commit({NAME: BIG[::-1]})
    assert isinstance(fetch(place, tmp_path / "f", web), Fetched)
    assert (tmp_path / "f").read_bytes() == BIG[::-1]


def test_a_damaged_beginning_is_found_and_fetched_anew(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    hub.fault(NAME, *[Fault("cut", 100_000)] * 4)
    assert isinstance(fetch(want(hub), tmp_path / "f", web), Failed)
    partial = tmp_path / "f.partial"
    partial.write_bytes(bytes(partial.stat().st_size))
    assert isinstance(fetch(want(hub), tmp_path / "f", web), Fetched)
    assert (tmp_path / "f").read_bytes() == BIG


def test_a_beginning_of_another_file_is_not_used(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    hub.fault(NAME, *[Fault("cut", 100_000)] * 4)
    fetch(want(hub), tmp_path / "f", web)
    hub.commit({NAME: BIG[::-1]})
    assert isinstance(fetch(want(hub), tmp_path / "f", web), Fetched)
    assert (tmp_path / "f").read_bytes() == BIG[::-1]
    assert [r.range for r in hub.log if r.path.startswith("/cdn")][-1] is None


def test_kill_9_in_the_middle_goes_on_where_it_was(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    hub.fault(NAME, Fault("stall", 2_345_678))
    script = (
        "import sys; from pathlib import Path; from pipeline.net.http_client import Web\n"
        "from pipeline.net.download_file import fetch; from pipeline.net.wanted_file import Want\n"
        "fetch(Want(sys.argv[1], int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]), Web(('127.0.0.1', 'localhost')))"
    )
    wanted, place = want(hub), tmp_path / "f"
    arguments = [wanted.url, str(wanted.size), str(wanted.digest), str(place)]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=ROOT)
    partial = tmp_path / "f.partial"
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size == 2_345_678):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert fetch(wanted, place, web) == Fetched(len(BIG), hashlib.sha256(BIG).hexdigest())
    assert hub.sent(NAME) == len(BIG)
    assert [r.range for r in hub.log if r.path.startswith("/cdn")] == [None, "bytes=2345678-"]


def test_a_finished_file_is_asked_for_no_more(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    fetch(want(hub), tmp_path / "f", web)
    before = len(hub.log)
    assert isinstance(fetch(want(hub), tmp_path / "f", web), Fetched)
    assert len(hub.log) == before


def test_two_at_once_fetch_a_file_once(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    """As when a run is started again while a worker of the killed one still writes."""
    hub.fault(NAME, Fault("stall", 2_000_000, {}, "0.3"))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch(want(hub), tmp_path / "f", web), range(2)))
    assert found == [Fetched(len(BIG), hashlib.sha256(BIG).hexdigest())] * 2
    assert (tmp_path / "f").read_bytes() == BIG
    assert hub.sent(NAME) == len(BIG)
    assert left_over(tmp_path) == []


def test_what_stands_in_the_way_of_a_file(hub: FakeHub, web: Web, tmp_path: Path) -> None:
    """A folder under its name or its partial file's; a partial file cut, or longer than the file."""
    for name in ("f", "g.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        found = fetch(want(hub), tmp_path / name.removesuffix(".partial"), web)
        assert isinstance(found, Failed) and found.reason == "disk" and "irectory" in found.detail
    for size in (10, len(BIG) + 10):
        place = tmp_path / str(size)
        hub.fault(NAME, *[Fault("cut", 2_000_000), Fault("cut", 10), Fault("cut", 10), Fault("cut", 10)])
        assert isinstance(fetch(want(hub), place, web), Failed)
        os.truncate(tmp_path / f"{size}.partial", size)
        assert isinstance(fetch(want(hub), place, web), Fetched)
        assert place.read_bytes() == BIG


def test_a_full_disk_is_a_reason(hub: FakeHub, web: Web) -> None:
    found = fetch(want(hub), Path("/proc/nowhere/f"), web)
    assert isinstance(found, Failed) and found.reason == "disk"

"""A source in a bucket: listed, fetched and ingested like a folder; moto's S3 server behind a wire that can be cut."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import pyarrow.parquet as pq
import pytest
import urllib3
from moto.server import ThreadedMotoServer

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.net.bucket import BucketError
from pipeline.run import runner
from pipeline.run.runner import Serial
from schemas.manifest import read, verify
from schemas.strict import RecipeError
from tests.pipeline import conftest
from tests.pipeline.conftest import Corpus, MakeRecipe, manifests, opened

SECRET = "verysecretkey"
QUICK = {"attempts": 3, "first_wait": 0.01, "longest_wait": 2.0, "connect": 2.0, "read": 2.0}


@dataclass
class Wire:
    """A TCP proxy. `cuts`: bytes after which an answer about `victim` breaks off, used up one by one.

    `edit` changes what passes; `asked` has every request.
    """

    port: int
    victim: bytes = b""
    cuts: list[int] = field(default_factory=list)
    edit: Callable[[bytes], bytes] = bytes
    asked: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._both, args=(client,), daemon=True).start()

    def _both(self, client: socket.socket) -> None:
        requests: list[bytes] = []
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            up = threading.Thread(target=self._up, args=(client, server, requests))
            up.start()
            self._down(server, client, requests)
            up.join()

    def _up(self, client: socket.socket, server: socket.socket, requests: list[bytes]) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                requests.append(data)
                self.asked.append(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, server: socket.socket, client: socket.socket, requests: list[bytes]) -> None:
        passed, cut = 0, None
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if cut is None and self.cuts and self.victim in requests[-1] and b"list-type" not in requests[-1]:
                    cut = self.cuts.pop(0)
                client.sendall(self.edit(data)[: None if cut is None else max(cut - passed, 0)])
                passed += len(data)
                if cut is not None and passed >= cut:
                    break
            client.shutdown(socket.SHUT_RDWR)


@dataclass
class Store:
    """An S3 server, a client of it, and the wire between it and the program."""

    client: Any
    wire: Wire

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        self.client.create_bucket(Bucket=bucket)
        for name, data in files.items():
            self.client.put_object(Bucket=bucket, Key=name, Body=data)


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def store(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    urllib3.request("POST", f"http://127.0.0.1:{s3_port}/moto-api/reset")
    client = botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{s3_port}"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(s3_port)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=wire.serve, args=(listener,), daemon=True).start()
        yield Store(client, wire)
    client.close()


def folder(corpus: Corpus, name: str, prefix: str = "") -> dict[str, bytes]:
    root = corpus.folder / "raw" / name
    return {prefix + p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def s3_recipe(make_recipe: MakeRecipe) -> MakeRecipe:
    """A recipe with one source of the corpus, at `place`."""

    def make(place: str, name: str = "llava", **run: Any) -> Path:
        def edit(mapping: dict[str, Any]) -> None:
            data, old = mapping["data"], mapping["run"]
            data["sources"] = {name: data["sources"][name]}
            for stage in ("benchmarks", "decontaminate", "language", "dedupe", "quality"):
                data.pop(stage, None)
            old["locations"] = {"tokenizer": old["locations"]["tokenizer"], name: place}
            mapping["run"] = old | {"allow_hosts": ["127.0.0.1"], "patience": dict(QUICK)} | run

        return make_recipe(edit)

    return make


def do(path: Path, out: Path) -> tuple[Context, list[Step]]:
    return conftest.do(path, out, ("hash", "download", "ingest"))


def texts(out: Path) -> str:
    """Everything a run wrote that is text."""
    return "".join(p.read_text() for p in out.rglob("*") if p.suffix == ".json")


@pytest.mark.parametrize("name", ["llava", "fine", "japanese"])
def test_a_bucket_gives_the_rows_that_the_folder_gives(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    store.put("raw", folder(corpus, name, "deep/er/") | {"deep/er/": b"", "deep/erst/other.json": b"[]"})
    context, steps = do(s3_recipe("s3://raw/deep/er/", name), tmp_path / "s3")
    local, local_steps = do(s3_recipe(str(corpus.folder / "raw" / name), name), tmp_path / "local")
    for there, here in zip(steps, local_steps, strict=True):
        assert read(context.out / there.folder).counts == read(local.out / here.folder).counts
        verify(context.out / there.folder)
    parts = sorted((local.out / local_steps[-1].folder).glob("*.parquet"))
    assert parts
    for part in parts:
        assert pq.read_table(context.out / steps[-1].folder / part.name).equals(pq.read_table(part))
    run = json.loads((context.out / steps[0].folder / "run.json").read_text())
    assert run["location"] == "s3://raw/deep/er/"
    assert SECRET not in texts(context.out) and "Signature" not in texts(context.out)


def test_the_place_is_no_part_of_the_result(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    store.put("one", folder(corpus, "llava"))
    store.put("two", folder(corpus, "llava", "a (b)+,/日本/"))
    one, steps = do(s3_recipe("s3://one"), tmp_path / "one")
    two, _ = do(s3_recipe("s3://two/a (b)+,/日本"), tmp_path / "two")
    assert manifests(one.out, steps) == manifests(two.out, steps)


def test_addresses_are_signed_for_the_bucket_s_own_region(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    store.client.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    for name, data in folder(corpus, "llava").items():
        store.client.put_object(Bucket="far", Key=name, Body=data)
    do(s3_recipe("s3://far"), tmp_path / "out")
    fetched = [asked for asked in store.wire.asked if b"X-Amz-Signature" in asked]
    assert fetched and all(b"eu-west-3" in asked for asked in fetched)


def test_a_cut_answer_is_gone_on_with(store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path) -> None:
    store.put("raw", folder(corpus, "fine"))
    clean, steps = do(s3_recipe("s3://raw", "fine"), tmp_path / "clean")
    store.wire.victim, store.wire.asked[:] = b"shapes/train-00000", []
    store.wire.cuts = [20_000, 100]  # the second time within the headers
    cut, _ = do(s3_recipe("s3://raw", "fine"), tmp_path / "cut")
    assert manifests(clean.out, steps) == manifests(cut.out, steps)
    resumed = [asked for asked in store.wire.asked if b"Range: bytes=" in asked]
    assert len(resumed) == 2 and all(b"If-Match" in asked for asked in resumed)


def test_a_partial_file_is_taken_up_under_another_signature(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    padding = b" " * (2 << 20)  # what is less is fetched again sooner than it is noted
    store.put(
        "raw", {n: data + padding if n.endswith(".json") else data for n, data in folder(corpus, "llava").items()}
    )
    path = s3_recipe("s3://raw")
    store.wire.victim, store.wire.cuts = b"conversations.json", [1 << 20, 2000, 2000]  # every attempt
    with pytest.raises(StepError, match="cut_short"):
        do(path, tmp_path / "out")
    store.wire.asked.clear()
    do(path, tmp_path / "out")
    assert any(b"Range: bytes=" in asked for asked in store.wire.asked)


def test_an_object_written_anew_is_never_mixed_with_the_old(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    files = folder(corpus, "llava")
    name = next(name for name in files if name.endswith(".json"))
    store.put("raw", files)
    path = s3_recipe("s3://raw")
    context, steps = opened(path, tmp_path / "out")
    store.client.put_object(Bucket="raw", Key=name, Body=files[name].replace(b"Which", b"What "))
    with pytest.raises(StepError, match="changed"):
        runner.run([steps[0]], context, Serial())
    _, again = do(path, tmp_path / "out")
    assert again[0].folder != steps[0].folder


def test_other_bytes_than_the_etag_says_are_refused(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    store.put("raw", folder(corpus, "fine"))
    path = s3_recipe("s3://raw", "fine")
    context, steps = opened(path, tmp_path / "out")
    store.wire.edit = lambda data: data.replace(b"PAR1", b"PAR2")
    with pytest.raises(StepError, match=r"wrong_content .*hash (?!d41d8cd9)"):
        runner.run([steps[0]], context, Serial())
    # an object encrypted with a key of KMS has an ETag that is no hash; size and version are all there is
    header = b"x-amz-server-side-encryption: aws:kms\r\nServer:"
    store.wire.edit = lambda data: data.replace(b"Server:", header).replace(b"PAR1", b"PAR2")
    runner.run([steps[0]], context, Serial())


def test_an_upload_in_parts_has_an_etag_that_is_no_hash(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    files = folder(corpus, "llava")
    name = next(name for name in files if name.endswith(".json"))
    store.put("raw", files)
    key = {"Bucket": "raw", "Key": name}
    upload = key | {"UploadId": store.client.create_multipart_upload(**key)["UploadId"]}
    etag = store.client.upload_part(**upload, PartNumber=1, Body=files[name])["ETag"]
    store.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    context, steps = do(s3_recipe("s3://raw"), tmp_path / "out")
    assert (context.out / steps[0].folder / "files" / name).read_bytes() == files[name]


@pytest.mark.parametrize(
    ("place", "run", "wanted"),
    [
        ("s3://absent/x", {}, "run.locations.llava: no bucket absent at http://127.0.0.1"),
        ("s3://raw/absent", {}, "data.sources.llava.files: nothing below s3://raw/absent matches"),
        ("s3://raw", {"allow_hosts": []}, "run.allow_hosts: [127.0.0.1] would admit it"),
        ("s3:///x", {}, "wanted s3://bucket/prefix"),
        ("gs://raw", {}, "wanted a folder or s3://bucket/prefix"),
        ("s3://odd", {}, "the object 'a//b.json' can't be a file's name here"),
        ("s3://forged", {}, r"the object 'a\x1b[2J.json' can't be a file's name here"),
        ("s3://raw", {"out": "s3://raw/out"}, "only sources' locations may be s3://"),
    ],
)
def test_what_can_t_be_is_said_in_one_line(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str],
    place: str, run: dict[str, Any], wanted: str,
) -> None:  # fmt: skip
    store.put("raw", folder(corpus, "llava"))
    store.put("odd", {"a//b.json": b"[]"})
    store.put("forged", {"a\x1b[2J.json": b"[]"})
    assert main(["plan", str(s3_recipe(place, **run))]) == 2
    err = capsys.readouterr().err
    assert wanted in err and err.count("\n") == 1 and SECRET not in err


def test_a_tokenizer_in_a_bucket_is_refused(make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_recipe(lambda mapping: mapping["run"]["locations"].update(tokenizer="s3://raw/tokenizer"))
    assert main(["plan", str(path)]) == 2
    assert "run.locations.tokenizer: got 's3://raw/tokenizer', wanted a folder" in capsys.readouterr().err


def test_a_server_that_is_away_is_said_in_one_line(
    store: Store, s3_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(BucketError, match=r"127.0.0.1:1 can't be asked \(EndpointConnectionError\); run again later"):
        opened(s3_recipe("s3://raw", patience={**QUICK, "attempts": 1}))


def test_without_credentials_a_bucket_is_asked_as_a_public_one(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in folder(corpus, "llava").items():
        store.put("raw", {})
        store.client.put_object(Bucket="raw", Key=name, Body=data, ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store.wire.asked.clear()
    do(s3_recipe("s3://raw"), tmp_path / "out")
    assert b"Authorization" not in b"".join(store.wire.asked) and b"Signature" not in b"".join(store.wire.asked)


def forbidden(data: bytes) -> bytes:
    return data.replace(b"HTTP/1.1 200 OK", b"HTTP/1.1 403 Forbidden")


def test_who_may_list_and_not_read_is_told_what_to_set(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, tmp_path: Path
) -> None:
    store.put("raw", folder(corpus, "llava"))
    context, steps = opened(s3_recipe("s3://raw"), tmp_path / "out")
    store.wire.edit = forbidden
    with pytest.raises(StepError, match=r"HTTP 403; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        runner.run([steps[0]], context, Serial())


def test_who_may_not_list_is_told_what_to_set(store: Store, s3_recipe: MakeRecipe) -> None:
    store.put("raw", {})
    store.wire.edit = forbidden
    with pytest.raises(RecipeError, match=r"s3://raw may not be listed \(403\); set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        opened(s3_recipe("s3://raw"))


def test_a_server_that_fails_and_is_asked_again_is_told_once(
    store: Store, s3_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(BucketError):
        opened(s3_recipe("s3://raw", patience={**QUICK, "attempts": 2}))
    assert capsys.readouterr().err == ""
    with pytest.raises(BucketError):
        opened(s3_recipe("s3://raw", patience={**QUICK, "attempts": 4}))
    told = "note: run.locations.llava: the server does not answer as it should; asking again\n"
    assert capsys.readouterr().err == told


def test_refused_credentials_name_what_to_set(
    store: Store, corpus: Corpus, s3_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(RecipeError, match="AWS is not configured"):
        opened(s3_recipe("s3://raw"))

"""A source in a bucket, `run.locations.NAME: s3://bucket/prefix`: its listing, and signed addresses of its objects.

botocore finds the credentials, knows endpoints and regions, lists and signs; the bytes come by download_file.py like
all others, so that a part-fetched object is resumed and a stall is a stall. An object is its name below the prefix, its
size and its ETag: every request asks for that ETag (`If-Match`), so an object that is written anew meanwhile is refused
and never mixed. An ETag that is an MD5 (one upload, not encrypted with a key of KMS) is proven as well. `AWS_*`
variables, profiles and roles work as everywhere; without credentials the bucket is asked as a public one. Addresses are
signed here, once: workers need no credentials.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pipeline.net.hub import Server
from pipeline.net.listing import nameable
from pipeline.net.patience import Patience
from pipeline.net.public_address import Refused, Unresolved, resolve
from pipeline.net.wanted_file import Want
from schemas.strict import RecipeError
from stages.download import Found

SCHEME = "s3://"
# After so many failed attempts at a question people are told
_NOTED = 2
# The longest that a signature may be valid; one made with temporary credentials ends with them
_VALID = 7 * 24 * 3600
_REGION = "x-amz-bucket-region"
_CREDENTIALS = "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class BucketError(Exception):
    """A bucket can't be asked just now: one line."""


@dataclass(frozen=True)
class Bucket:
    """Objects below a prefix; `where` names the location in errors as the recipe does."""

    where: str
    name: str
    prefix: str
    server: Server
    client: Any = field(repr=False)

    @classmethod
    def at(cls, where: str, location: str, allowed: tuple[str, ...], patience: Patience) -> Bucket:
        """The bucket of an `s3://bucket/prefix`, in its own region. Raises RecipeError or BucketError."""
        name, _, prefix = location.removeprefix(SCHEME).partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", name):
            raise RecipeError(f"{where}: got {location!r}, wanted s3://bucket/prefix")
        client = _client(where, patience)
        server = Server(str(client.meta.endpoint_url), allowed, patience)
        _check_address(where, server)
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        found = cls(where, name, prefix, server, client)
        region = found._told(lambda: client.head_bucket(Bucket=name))["ResponseMetadata"]["HTTPHeaders"].get(_REGION)
        # signed for another region than the bucket's, an address would be refused
        away = region not in (None, "", client.meta.region_name)
        return replace(found, client=_client(where, patience, region)) if away else found

    def files(self) -> list[Found]:
        """Every object below the prefix; `digest` is its ETag without quotes. Raises RecipeError or BucketError."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix)
        found: list[Found] = self._told(lambda: [entry for page in pages for entry in self._entries(page)])
        return sorted(found)

    def want(self, found: Found) -> Want:
        """What to fetch for a listed object."""
        key = {"Bucket": self.name, "Key": self.prefix + found.file}
        url = self.client.generate_presigned_url("get_object", Params=key, ExpiresIn=_VALID)
        digest = found.digest if re.fullmatch(r"[0-9a-f]{32}", found.digest) else None
        return Want(url, found.size, digest, f'"{found.digest}"', f"set {_CREDENTIALS}, of one who may read it")

    @property
    def origin(self) -> dict[str, str]:
        """Where the files come from, for run.json."""
        return {"endpoint": self.server.endpoint, "location": f"{SCHEME}{self.name}/{self.prefix}"}

    def _entries(self, page: dict[str, Any]) -> Iterator[Found]:
        for entry in page.get("Contents", []):
            file = entry["Key"].removeprefix(self.prefix)
            if not entry["Size"] and (not file or file.endswith("/")):
                continue  # what consoles write to show an empty folder
            if not nameable(file):
                raise RecipeError(f"{self.where}: the object {entry['Key']!a} can't be a file's name here; rename it")
            yield Found(file, entry["Size"], entry["ETag"].strip('"'))

    def _told(self, ask: Callable[[], Any]) -> Any:
        """What a question to S3 brings, its errors as ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return ask()
        except ClientError as error:
            raise self._refused(error.response) from None
        except BotoCoreError as error:
            kind = type(error).__name__
            what = f"{self.server.endpoint} can't be asked ({kind}); run again later"
            raise BucketError(f"{self.where}: {what}") from None

    def _refused(self, response: dict[str, Any]) -> Exception:
        code, status = response["Error"].get("Code", ""), response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if status == 404:
            return RecipeError(f"{self.where}: no bucket {self.name} at {self.server.endpoint}")
        if status in (401, 403):
            return RecipeError(
                f"{self.where}: s3://{self.name} may not be listed ({code}); set {_CREDENTIALS}, of one who may"
            )
        return BucketError(f"{self.where}: s3://{self.name} can't be listed ({code or status}); run again later")


def _check_address(where: str, server: Server) -> None:
    """The endpoint's host, by the rule for all others."""
    split = urlsplit(server.endpoint)
    try:
        resolve(split.hostname or "", split.port or 443, frozenset(server.allowed))
    except Refused as error:
        raise RecipeError(f"{where}: {error}") from None
    except Unresolved as error:
        raise BucketError(f"{where}: {error}; is AWS_ENDPOINT_URL right?") from None


def _client(where: str, patience: Patience, region: str | None = None) -> Any:
    """A client of S3 with the credentials of this machine, or none."""
    try:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise RecipeError(f"{where}: s3:// needs botocore; pip install -e '.[s3]' -c constraints.txt") from None
    try:
        session = botocore.session.get_session()
        signature = "s3v4" if session.get_credentials() else UNSIGNED
        retries = {"mode": "standard", "total_max_attempts": patience.attempts}
        config = Config(
            signature_version=signature, retries=retries, connect_timeout=patience.connect, read_timeout=patience.read
        )
        region = region or session.get_config_variable("region") or "us-east-1"
        client = session.create_client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise RecipeError(f"{where}: AWS is not configured as botocore wants it ({error})") from None
    client.meta.events.register_first("needs-retry.s3", functools.partial(_note, where, patience))
    return client


def _note(where: str, patience: Patience, attempts: int, response: Any, caught_exception: Any, **_: Any) -> None:
    """Say once that a question has to be asked again: botocore is silent, and may be so for minutes."""
    failed = caught_exception is not None or response[0].status_code >= 500
    if failed and attempts == _NOTED < patience.attempts:
        print(f"note: {where}: the server does not answer as it should; asking again", file=sys.stderr)

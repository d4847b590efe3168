"""What goes wrong between here and a server, as values: a reason, a line for people, whether it may heal.

Inside this package a failure travels as an exception, `Trouble`; whoever asked gets the `Failed` that it carries. A
URL is shown without its query, because signed addresses carry their key there, and the text of the HTTP library's own
errors is left out, because it may quote the whole address.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from urllib3 import exceptions as errors

from pipeline.net.patience import Patience
from pipeline.net.public_address import Refused, Unresolved


@dataclass(frozen=True)
class Failed:
    """Why something could not be fetched. `may_heal`: another time it may be there. `silent`: the address's host
    neither took the connection nor began to answer (the host of a redirect's target does not count)."""

    reason: str
    detail: str
    may_heal: bool
    wait: float | None = None
    status: int | None = None
    code: str = ""
    silent: bool = False


class Trouble(Exception):
    """A request that failed, inside this package; it ends as the `Failed` it carries."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.reason}: {failed.detail}")
        self.failed = failed


def shown(url: str) -> str:
    """A URL for people: without query, fragment and credentials, printable and short."""
    bare = re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    return ascii(bare)[1:-1][:200]


def failure(error: Exception, url: str, patience: Patience, deadline: float | None) -> Failed:
    """An exception of the name service or of the HTTP library as a value."""
    failed = _told(error, shown(url), patience)
    if failed.reason == "timeout" and deadline is not None and time.monotonic() >= deadline:
        return Failed("too_slow", f"{shown(url)}: not there in the time allowed", True)
    return failed


def _told(error: Exception, place: str, patience: Patience) -> Failed:
    if isinstance(error, Refused):
        return Failed("address_refused", str(error), False)
    if isinstance(error, Unresolved):
        return Failed("unresolved", str(error), True)
    if isinstance(error, errors.ConnectTimeoutError) and not isinstance(error, errors.NewConnectionError):
        return Failed("timeout", f"{place}: no connection after {patience.connect:g} s", True)
    if isinstance(error, errors.ReadTimeoutError):
        return Failed("timeout", f"{place}: no byte for {patience.read:g} s", True)
    if isinstance(error, errors.SSLError):
        return Failed("certificate", f"{place}: TLS failed ({type(error).__name__})", False)
    if isinstance(error, errors.LocationValueError):
        return Failed("bad_url", f"{place}: not an address", False)
    if isinstance(error, (errors.ProtocolError, errors.InvalidHeader)):
        return Failed("cut_short", f"{place}: the connection broke off, or what came was not HTTP", True)
    return Failed("unreachable", f"{place}: {type(error).__name__}", True)

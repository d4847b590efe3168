"""What a server answered, its body unread, and what a status outside 2xx means."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3

from pipeline.net.trouble import Failed, shown

_HEALS = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """A response that is not a redirect, its body unread."""

    response: urllib3.BaseHTTPResponse
    url: str
    status: int
    headers: Mapping[str, str]
    hops: int


def refusal(answer: Answer) -> Failed:
    """What a status outside 2xx means."""
    status, code = answer.status, answer.headers.get("X-Error-Code", "")
    detail = f"{shown(answer.url)}: HTTP {status}" + (f" ({code})" if code.isalnum() else "")
    if status in _HEALS:
        reason = "rate_limited" if status == 429 else "server_error"
        return Failed(reason, detail, True, _asked_wait(answer.headers), status, code)
    if status in (401, 403):
        # behind a redirect a 403 is a signature that ran out: the next attempt gets a fresh one
        return Failed("forbidden", detail, answer.hops > 0 and status == 403, None, status, code)
    if status == 412:
        return Failed("changed", f"{detail}: another version than was listed", False, None, status, code)
    reason = "not_found" if status in (404, 410) else "refused"
    return Failed(reason, detail, False, None, status, code)


def number(text: str) -> int | None:
    """A size or a count of seconds as servers write it; none for what is no such number."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After (a number or a date) or of the Hub's `RateLimit: "api";r=0;t=55`, one added."""
    after = headers.get("Retry-After", "").strip()
    if (seconds := number(after)) is not None:
        return float(min(seconds, 10**6))
    if after:
        try:
            return max(email.utils.parsedate_to_datetime(after).timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError):
            return None  # unreadable: our own waits
    limit = re.search(r"\br=0\s*;\s*t=([0-9]{1,6})\b", headers.get("RateLimit", ""))
    return float(limit.group(1)) + 1 if limit else None

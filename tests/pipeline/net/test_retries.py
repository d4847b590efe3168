"""Asking again: which answers heal, how long is waited, when it is enough."""

from __future__ import annotations

import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from pipeline.net.answer import Answer, refusal
from pipeline.net.http_client import Web
from pipeline.net.patience import Patience
from pipeline.net.retries import Attempts, read
from pipeline.net.trouble import Failed
from tests.pipeline.net.rogue_server import Rogue, answer, misbehaving

TROUBLE = Failed("server_error", "x", True)
PATIENT = Patience(attempts=5, first_wait=2.0, longest_wait=20.0)


def refused(status: int, hops: int = 0, **headers: str) -> Failed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(Answer(urllib3.HTTPResponse(), "http://h/x?key=secret", status, named, hops))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_heals_is_asked_for_again(status: int) -> None:
    with misbehaving(Rogue({"/f": lambda n, _: answer(200, {}, b"there") if n else answer(status)})) as rogue:
        found = read(Web(["127.0.0.1"], Patience(first_wait=0.0)), f"{rogue.endpoint}/f")
    assert not isinstance(found, Failed) and found[0] == b"there"


REASONS = {
    400: "refused", 401: "forbidden", 403: "forbidden", 404: "not_found", 410: "not_found", 412: "changed",
    416: "refused", 451: "refused", 501: "refused",
}  # fmt: skip


@pytest.mark.parametrize("status", REASONS)
def test_an_answer_for_good_is_asked_for_once(status: int) -> None:
    with misbehaving(Rogue({"/f": lambda *_: answer(status)})) as rogue:
        found = read(Web(["127.0.0.1"], Patience(first_wait=0.0)), f"{rogue.endpoint}/f")
    assert isinstance(found, Failed) and (found.reason, found.status) == (REASONS[status], status)
    assert len(rogue.asked) == 1


def test_only_a_403_behind_a_redirect_may_heal() -> None:
    found = {(status, hops): refused(status, hops).may_heal for status in (401, 403, 404) for hops in (0, 1)}
    assert [key for key, heals in found.items() if heals] == [(403, 1)]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": " 0 "}, 0.0),
        ({"Retry_After": "9" * 18}, 1e6),
        ({"Retry_After": "9" * 19}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry_After": "Wed, 21 Oct 9999 07:28:00 -9959"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 56.0),
        ({"RateLimit": '"api"; r=0 ; t=55'}, 56.0),
        ({"RateLimit": '"api";r=10;t=55'}, None),
        ({"RateLimit": '"api";r=0;t=55', "Retry_After": "3"}, 3.0),
    ],
)
def test_a_server_s_own_word_on_when_to_come_back(headers: dict[str, str], wait: float | None) -> None:
    assert refused(429, **headers).wait == wait


def test_a_date_to_come_back_at() -> None:
    wait = refused(503, Retry_After=formatdate(time.time() + 100, usegmt=True)).wait
    assert wait is not None and 90 < wait <= 100


def test_a_code_is_shown_if_it_is_one() -> None:
    assert refused(404, X_Error_Code="RepoNotFound").detail == "http://h/x: HTTP 404 (RepoNotFound)"
    assert refused(404, X_Error_Code="no\x1b[2J").detail == "http://h/x: HTTP 404"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, none of them waited for."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr("pipeline.net.retries.time", clock)
    return slept


def test_waits_double_up_to_the_longest_and_end(slept: list[float]) -> None:
    attempts = Attempts("http://h/x", Patience(attempts=6, first_wait=2.0, longest_wait=20.0))
    assert [attempts.again(TROUBLE) for _ in range(6)] == [True] * 5 + [False]
    for number, wait in enumerate(slept):
        assert min(2.0 ** (number + 1) / 2, 20.0) <= wait <= min(2.0 ** (number + 1), 20.0)


@given(st.lists(st.text(min_size=1), min_size=8, max_size=8, unique=True))
def test_waits_are_spread_by_the_address_and_the_same_each_time(urls: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        slept: list[float] = []
        patch.setattr("pipeline.net.retries.time", SimpleNamespace(sleep=slept.append, monotonic=lambda: 0.0))
        for url in [*urls, *urls]:
            assert Attempts(url.encode("utf-8", "replace").hex(), PATIENT).again(TROUBLE)
    assert slept[:8] == slept[8:] and len(set(slept[:8])) > 4


def test_progress_starts_the_count_anew(slept: list[float]) -> None:
    attempts = Attempts("http://h/x", PATIENT)
    assert all(attempts.again(TROUBLE, progress=True) for _ in range(20))
    assert len(set(slept)) == 1
    assert [attempts.again(TROUBLE) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("failed", "deadline", "again"),
    [
        (Failed("x", "", True, wait=20.0), None, True),
        (Failed("x", "", True, wait=20.1), None, False),
        (Failed("x", "", False, wait=0.0), None, False),
        (Failed("x", "", True, wait=3.0), 3.1, True),
        (Failed("x", "", True, wait=3.0), 3.0, False),
    ],
)
def test_what_is_too_long_or_for_good_is_not_waited_for(
    failed: Failed, deadline: float | None, again: bool, slept: list[float]
) -> None:
    assert Attempts("http://h/x", PATIENT).again(failed, deadline=deadline) is again
    assert slept == ([failed.wait] if again else [])


def test_a_note_is_called_once_before_it_gets_long(slept: list[float]) -> None:
    told: list[Any] = []
    attempts = Attempts("http://h/x", Patience(attempts=9), lambda failed, wait: told.append((sum(slept), wait)))
    while attempts.again(TROUBLE):
        pass
    ((before, wait),) = told
    assert before <= 5 < before + wait


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_wait": -1.0}, {"longest_wait": -1.0}, {"connect": 0.0}, {"read": 0.0}]
)
def test_a_patience_that_can_t_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="wanted attempts >= 1"):
        Patience(**wrong)

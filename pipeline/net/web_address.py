"""A web address taken apart: scheme, host and port that a request goes to, and where a redirect leads from it.

Only http and https, and none that carries a password: it would end in messages and logs.
"""

from __future__ import annotations

from urllib.parse import urljoin

from urllib3.util import Url, parse_url

from pipeline.net.trouble import Failed, Trouble, shown

_PORTS = {"http": 80, "https": 443}


def parsed(url: str) -> Url:
    """The parts of an address. Raises Trouble for what no request can go to."""
    found = parse_url(url)
    if found.scheme not in _PORTS or not found.host:
        raise Trouble(Failed("bad_url", f"{shown(url)}: not an http or https address", False))
    if found.auth:
        raise Trouble(Failed("bad_url", f"{shown(url)}: carries a password", False))
    return found


def joined(url: str, target: str) -> str:
    """Where a redirect leads to. Raises Trouble."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise Trouble(Failed("bad_url", f"{shown(url)}: redirects to {shown(target)}", False)) from None


def host(url: Url) -> str:
    """The host as name services and TLS know it: an IPv6 address without its brackets."""
    return (url.host or "").strip("[]")


def port(url: Url) -> int:
    """The port that is asked, named or not."""
    return url.port or _PORTS[str(url.scheme)]


def origin(url: Url) -> tuple[str | None, str | None, int]:
    """Whom a token is meant for."""
    return url.scheme, url.host, port(url)

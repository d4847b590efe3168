"""Which addresses may be asked: public ones, and hosts that the recipe's `run.allow_hosts` names.

Datasets name addresses (URL columns, redirects), and a dataset must not make this machine ask its own network: no
loopback, private, link-local, multicast or reserved address, no cloud's metadata service. What counts is the address
and not the name: `resolve` gives the addresses that were checked, and http_client.py connects to those very numbers, so
a name server that answers differently the second time changes nothing. Every hop of a redirect comes through here.

`Names` remembers what it checked for a minute: the addresses themselves, so nothing unchecked is asked. A name server
may leave a question open for ever, and `getaddrinfo` takes no time limit; so it is called in a thread that is left
behind when the time is over, and of such threads there are never more than a few.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Container
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What is_global lets pass, yet answers only inside: Azure's host agent, Oracle's metadata, IPv6 site-local (RFC 3879)
_INSIDE = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


_REMEMBERED = 60.0
_MOST_ASKING = 32
_asking = threading.Semaphore(_MOST_ASKING)


class Refused(ValueError):
    """An address that may not be asked; the message is one line."""


class Unresolved(ValueError):
    """A name without an address."""


class Names:
    """Host names of one process, looked up and checked; `seconds`: how long a name server may take to answer."""

    def __init__(self, allowed: Container[str], seconds: float) -> None:
        self.allowed, self.seconds = allowed, seconds
        self._known: dict[str, tuple[float, list[str]]] = {}

    def find(self, host: str, port: int, seconds: float | None = None) -> list[str]:
        """The checked addresses of a host. Raises Refused or Unresolved."""
        until, found = self._known.get(host, (0.0, []))
        if time.monotonic() >= until:
            found = resolve(host, port, self.allowed, self.seconds if seconds is None else seconds)
            self._known[host] = (time.monotonic() + _REMEMBERED, found)
        return found

    def forget(self, host: str) -> None:
        """Nothing answers at these addresses: the name may lead elsewhere by now."""
        self._known.pop(host, None)


def resolve(host: str, port: int, allowed: Container[str] = (), seconds: float = 10.0) -> list[str]:
    """The addresses of a host, each one checked. Raises Refused or Unresolved, the latter after `seconds` at most."""
    name = host.rstrip(".").lower()
    found = _looked_up(name, port, seconds)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if name not in allowed:
        for address in addresses:
            if not public(address):
                raise Refused(f"{name}: is {address}, no public address; run.allow_hosts: [{name}] would admit it")
    return addresses


def _looked_up(name: str, port: int, seconds: float) -> list[Any]:
    """`getaddrinfo` with a time limit."""
    answer: queue.SimpleQueue[list[Any] | Unresolved] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (socket.gaierror, UnicodeError) as error:
            answer.put(Unresolved(f"{name}: has no address ({getattr(error, 'strerror', None) or error})"))
        finally:
            _asking.release()

    late = Unresolved(f"{name}: no answer from the name server in the time allowed")
    if not _asking.acquire(timeout=seconds):
        raise late
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        raise late from None
    if isinstance(found, Unresolved):
        raise found
    return found


def public(text: str) -> bool:
    """Whether an address belongs to the public internet, an IPv4 address inside an IPv6 one included."""
    address: Address = ipaddress.ip_address(text)
    return all(_public(one) for one in (address, *_embedded(address)))


def _public(address: Address) -> bool:
    inside = any(address.version == network.version and address in network for network in _INSIDE)
    return address.is_global and not address.is_multicast and not inside


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address leads to (mapped, 6to4, Teredo, NAT64)."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]

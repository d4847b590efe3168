"""Which addresses may be asked: public ones, and hosts that the recipe's `run.allow_hosts` names.

Datasets name addresses (URL columns, redirects), and a dataset must not make this machine ask its own network: no
loopback, private, link-local, multicast or reserved address, no cloud's metadata service. What counts is the address
and not the name: `resolve` gives the addresses that were checked, and web.py connects to those very numbers, so a name
server that answers differently the second time changes nothing. Every hop of a redirect comes through here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Container

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What is_global lets pass, yet answers only inside: Azure's host agent, Oracle's metadata, IPv6 site-local (RFC 3879)
_INSIDE = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(ValueError):
    """An address that may not be asked; the message is one line."""


class Unresolved(ValueError):
    """A name without an address."""


def resolve(host: str, port: int, allowed: Container[str] = ()) -> list[str]:
    """The addresses of a host, each one checked. Raises Refused or Unresolved."""
    name = host.rstrip(".").lower()
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Unresolved(f"{name}: has no address ({getattr(error, 'strerror', None) or error})") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if name not in allowed:
        for address in addresses:
            if not public(address):
                raise Refused(f"{name}: is {address}, no public address; run.allow_hosts: [{name}] would admit it")
    return addresses


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

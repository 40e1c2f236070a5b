"""Which proxy of the environment stands between this machine and an address: to be named in sentences."""

from __future__ import annotations

from requests.utils import get_environ_proxies, select_proxy

from benchmark.private import without_password


def proxy_for(url: str) -> str:
    """The proxy's address, without name and password; empty where the environment names none for this address."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return ""
    return without_password(proxy if "://" in proxy else f"http://{proxy}")  # an environment may name it without a scheme

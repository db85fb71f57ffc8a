"""Addresses of listeners as people write them."""


def base_url(host: str, port: int, *, encrypted: bool) -> str:
    """`https://[::1]:8081` and the like, without a path."""
    return f"{'https' if encrypted else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

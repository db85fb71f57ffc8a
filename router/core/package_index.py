"""Which package index is asked: what of the gateway's environment is for the program that installs packages.

uv reads neither pip's variables nor its configuration files, so that whoever has set up pip would find the
gateway asking PyPI. What pip would do is said to uv in its own words. Nothing else of the environment is
passed on: uv would obey a good hundred variables, from where it keeps things to what it overrides.
"""

import math
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

_UVS = re.compile(
    "UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_STRATEGY|TORCH_BACKEND"
    "|INDEX_[A-Z0-9_]+_(?:USERNAME|PASSWORD)"
    "|INSECURE_HOST|SYSTEM_CERTS|NATIVE_TLS|HTTP_TIMEOUT|REQUEST_TIMEOUT|HTTP_CONNECT_TIMEOUT|HTTP_RETRIES)"
)
"""Those of uv's own that say which index, and how it is reached."""
_CERTIFICATES = re.compile("SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT")
_PROXIES = re.compile("(?:HTTP|HTTPS|ALL|NO)_PROXY|(?:http|https|all|no)_proxy")
_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_DEFAULTS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
NO_INDEX = "file:///nonexistent"
"""What stands for no index at all: uv has an option for it and no variable. It finds no package there."""
_PATH = re.compile(r"(?P<name>(?:[A-Za-z0-9._-]+=)?)(?P<path>[^/:@~\s,=][^:@\s,=]*)")
"""What stands for a directory that is not named from the root on. Anything else is an address, or quoted."""


def index_variables(environ: Mapping[str, str], index: str | None, directory: str) -> dict[str, str]:
    """The variables that uv gets of the gateway's environment: indexes, certificates, proxies, time limits.

    `index`, an address of the settings, stands over all others: it alone is asked. Else where
    UV_DEFAULT_INDEX or UV_INDEX_URL is set, pip's variables name no index; and else each of PIP_INDEX_URL,
    PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS and PIP_NO_INDEX stands where uv's counterpart is not set. pip's
    certificates, proxy, trusted hosts, time limit and retries stand likewise. An empty variable is not set.

    uv takes a package from the first index that has it, an extra one before the default one, and pip the
    newest of all: UV_INDEX_STRATEGY=unsafe-best-match says to uv what pip does.

    Paths of `environ` that do not begin with a slash are those below `directory`, an absolute path: uv runs
    in another one.
    """
    ours = {name: value for name, value in environ.items() if value.strip()}
    variables = {
        name: value
        for name, value in ours.items()
        if any(kind.fullmatch(name) for kind in (_UVS, _CERTIFICATES, _PROXIES))
    }
    for name, value in _translated(ours, variables):
        variables.setdefault(name, value)
    for name in _PLACES:
        if name in variables:
            variables[name] = _absolute(variables[name], directory)
    if index is not None:
        variables = {name: value for name, value in variables.items() if name not in _PLACES}
        variables["UV_DEFAULT_INDEX"] = index
    return variables


def _absolute(places: str, directory: str) -> str:
    return "".join(_below(directory, place) for place in re.split(r"([\s,]+)", places))


def _below(directory: str, place: str) -> str:
    match = _PATH.fullmatch(place)
    return f"{match['name']}{directory.rstrip('/')}/{match['path']}" if match else place


def _translated(ours: Mapping[str, str], uvs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What pip's variables say, in uv's, where `uvs` do not speak of the same."""
    if not any(name in uvs for name in _DEFAULTS):
        yield from _places(ours, uvs)
    # Beside PIP_CERT those that pip's own HTTP library reads.
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if name in ours and "SSL_CERT_DIR" not in uvs:
            yield "SSL_CERT_FILE", ours[name]
    if "PIP_CLIENT_CERT" in ours:
        yield "SSL_CLIENT_CERT", ours["PIP_CLIENT_CERT"]
    if "PIP_PROXY" in ours and not any(re.fullmatch("(?i)(?:http|https|all)_proxy", name) for name in uvs):
        proxy = ours["PIP_PROXY"]
        yield "ALL_PROXY", proxy if "://" in proxy else f"http://{proxy}"
    if "PIP_TRUSTED_HOST" in ours:
        yield "UV_INSECURE_HOST", " ".join(ours["PIP_TRUSTED_HOST"].split())
    if "UV_REQUEST_TIMEOUT" not in uvs and (seconds := _whole(ours.get("PIP_DEFAULT_TIMEOUT", ""))):
        yield "UV_HTTP_TIMEOUT", str(seconds)
    if (retries := _whole(ours.get("PIP_RETRIES", ""))) is not None:
        yield "UV_HTTP_RETRIES", str(retries)


def _places(ours: Mapping[str, str], uvs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if ours.get("PIP_NO_INDEX", "").strip().lower() in ("1", "true", "yes", "on", "y", "t"):
        yield "UV_DEFAULT_INDEX", NO_INDEX
    else:
        if "PIP_INDEX_URL" in ours:
            yield "UV_DEFAULT_INDEX", ours["PIP_INDEX_URL"].strip()
        if "PIP_EXTRA_INDEX_URL" in ours and "UV_EXTRA_INDEX_URL" not in uvs:
            yield "UV_INDEX", " ".join(ours["PIP_EXTRA_INDEX_URL"].split())
    if "PIP_FIND_LINKS" in ours:
        yield "UV_FIND_LINKS", ",".join(ours["PIP_FIND_LINKS"].split())


def _whole(text: str) -> int | None:
    """uv takes no fractions of a second, and does not start where a number is not one."""
    try:
        number = math.ceil(float(text))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1_000_000 else None


def secrets_in(variables: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be shown of `variables`: passwords, and user names without one, the longest first.

    Each as it is written there, and decoded.
    """
    found: set[str] = set()
    for name, value in variables.items():
        if name.endswith("_PASSWORD"):
            found.add(value)
        for address in (value, *value.split(), *re.split(r"[\s,]+", value)):
            found.update(_secrets_of(address))
    both = {form for secret in found for form in (secret, unquote(secret)) if form.strip()}
    return tuple(sorted(both, key=lambda secret: (-len(secret), secret)))


def _secrets_of(address: str) -> Iterator[str]:
    _, scheme, rest = address.rpartition("://")
    # Up to the last @, whatever stands before it: a password with a slash in it makes no address, and is
    # quoted by who can not read it.
    user, at, _ = rest.rpartition("@")
    name, colon, password = user.partition(":")
    if at and (scheme or colon):
        yield password if colon else name  # a name alone is a token
    for pair in re.split("[&;]", address.partition("?")[2].partition("#")[0]):
        if pair.partition("=")[2]:
            yield pair.partition("=")[2]

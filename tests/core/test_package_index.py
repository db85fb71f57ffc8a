"""Which variables reach uv: those that say which index is asked and how, pip's in its words, no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.package_index import NO_INDEX, index_variables, secrets_in

INDEX = "https://packages.example/simple"
OTHER = "https://other.example/simple"


@pytest.mark.parametrize(
    ("environ", "passed"),
    [
        ({}, {}),
        ({"UV_DEFAULT_INDEX": INDEX}, {"UV_DEFAULT_INDEX": INDEX}),
        ({"UV_INDEX": f"corp={INDEX} {OTHER}"}, {"UV_INDEX": f"corp={INDEX} {OTHER}"}),
        ({"UV_INDEX_URL": INDEX}, {"UV_INDEX_URL": INDEX}),
        (
            {"UV_INDEX": f"corp={INDEX}", "UV_INDEX_CORP_USERNAME": "u", "UV_INDEX_CORP_PASSWORD": "p"},
            {"UV_INDEX": f"corp={INDEX}", "UV_INDEX_CORP_USERNAME": "u", "UV_INDEX_CORP_PASSWORD": "p"},
        ),
        ({"PIP_INDEX_URL": f" {INDEX} "}, {"UV_DEFAULT_INDEX": INDEX}),
        ({"PIP_EXTRA_INDEX_URL": f"{INDEX}\n {OTHER}"}, {"UV_INDEX": f"{INDEX} {OTHER}"}),
        ({"PIP_FIND_LINKS": f"/wheels  {OTHER}"}, {"UV_FIND_LINKS": f"/wheels,{OTHER}"}),
        ({"PIP_INDEX_URL": INDEX, "UV_INDEX": OTHER}, {"UV_DEFAULT_INDEX": INDEX, "UV_INDEX": OTHER}),
        (
            {"PIP_INDEX_URL": OTHER, "PIP_FIND_LINKS": "/wheels", "UV_INDEX_URL": INDEX},
            {"UV_INDEX_URL": INDEX},
        ),
        (
            {"PIP_INDEX_URL": OTHER, "PIP_EXTRA_INDEX_URL": OTHER, "UV_DEFAULT_INDEX": INDEX},
            {"UV_DEFAULT_INDEX": INDEX},
        ),
        ({"PIP_EXTRA_INDEX_URL": OTHER, "UV_EXTRA_INDEX_URL": INDEX}, {"UV_EXTRA_INDEX_URL": INDEX}),
        (
            {"PIP_NO_INDEX": "1", "PIP_INDEX_URL": INDEX, "PIP_FIND_LINKS": "/wheels"},
            {"UV_DEFAULT_INDEX": NO_INDEX, "UV_FIND_LINKS": "/wheels"},
        ),
        ({"PIP_NO_INDEX": "0", "PIP_INDEX_URL": INDEX}, {"UV_DEFAULT_INDEX": INDEX}),
        ({"PIP_CERT": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"PIP_CERT": "/ca.pem", "SSL_CERT_FILE": "/mine.pem"}, {"SSL_CERT_FILE": "/mine.pem"}),
        ({"PIP_CERT": "/ca.pem", "SSL_CERT_DIR": "/certs"}, {"SSL_CERT_DIR": "/certs"}),
        ({"PIP_CERT": "/ca.pem", "REQUESTS_CA_BUNDLE": "/r.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/r.pem", "CURL_CA_BUNDLE": "/c.pem"}, {"SSL_CERT_FILE": "/r.pem"}),
        ({"PIP_CLIENT_CERT": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        ({"PIP_TRUSTED_HOST": "a.example\nb.example:8080"}, {"UV_INSECURE_HOST": "a.example b.example:8080"}),
        ({"PIP_PROXY": "proxy.example:3128"}, {"ALL_PROXY": "http://proxy.example:3128"}),
        ({"PIP_PROXY": "http://p", "https_proxy": "http://q"}, {"https_proxy": "http://q"}),
        ({"NO_PROXY": "a", "http_proxy": "http://q"}, {"NO_PROXY": "a", "http_proxy": "http://q"}),
        ({"PIP_DEFAULT_TIMEOUT": "15"}, {"UV_HTTP_TIMEOUT": "15"}),
        ({"PIP_DEFAULT_TIMEOUT": "2.5"}, {"UV_HTTP_TIMEOUT": "3"}),
        ({"PIP_DEFAULT_TIMEOUT": "0"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "-1"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "inf"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "nan"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "soon"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "15", "UV_HTTP_TIMEOUT": "9"}, {"UV_HTTP_TIMEOUT": "9"}),
        ({"PIP_DEFAULT_TIMEOUT": "15", "UV_REQUEST_TIMEOUT": "9"}, {"UV_REQUEST_TIMEOUT": "9"}),
        ({"PIP_RETRIES": "0"}, {"UV_HTTP_RETRIES": "0"}),
        ({"UV_DEFAULT_INDEX": "", "PIP_INDEX_URL": INDEX}, {"UV_DEFAULT_INDEX": INDEX}),
    ],
)  # fmt: skip
def test_what_is_passed_on(environ: dict[str, str], passed: dict[str, str]) -> None:
    assert index_variables(environ, None, "/srv") == passed


@pytest.mark.parametrize(
    ("environ", "passed"),
    [
        ({"PIP_FIND_LINKS": "wheels ./more ../beside"}, "/srv/wheels,/srv/./more,/srv/../beside"),
        ({"PIP_FIND_LINKS": f"/wheels {OTHER} file:///wheels ~/wheels"}, f"/wheels,{OTHER},file:///wheels,~/wheels"),
        ({"UV_FIND_LINKS": "wheels,/more"}, "/srv/wheels,/more"),
        ({"PIP_INDEX_URL": "mirror/simple"}, "/srv/mirror/simple"),
        ({"UV_INDEX": f"corp=mirror {OTHER}"}, f"corp=/srv/mirror {OTHER}"),
        # The rest of a password with a blank in it is no path, and has to be known as it is written.
        ({"UV_INDEX": "http://ada:hunt er2@b.example"}, "http://ada:hunt er2@b.example"),
    ],
)  # fmt: skip
def test_a_path_is_one_below_the_directory_that_the_gateway_runs_in(
    environ: dict[str, str], passed: str
) -> None:
    """As for pip; uv runs in a directory of the cache, where nothing lies."""
    assert list(index_variables(environ, None, "/srv").values()) == [passed]


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "NETRC", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "DATABASE_URL"),
        *(
            "UV_CACHE_DIR",
            "UV_CONFIG_FILE",
            "UV_OVERRIDE",
            "UV_CONSTRAINT",
            "UV_PYTHON",
            "UV_KEYRING_PROVIDER",
        ),
        *(
            "UV_NO_VERIFY_HASHES",
            "UV_EXCLUDE_NEWER",
            "UV_PUBLISH_TOKEN",
            "UV_LINK_MODE",
            "UV_THREADPOOL_SIZE",
        ),
        *(
            "PIP_CONSTRAINT",
            "PIP_CONFIG_FILE",
            "PIP_TARGET",
            "PIP_REQUIRE_VIRTUALENV",
            "XUV_INDEX",
            "UV_INDEX_",
        ),
    ],
)
def test_what_is_not_passed_on(name: str) -> None:
    assert index_variables({name: "x"}, None, "/srv") == {}


def test_the_setting_stands_over_every_index_and_keeps_how_it_is_reached() -> None:
    environ = {
        "UV_DEFAULT_INDEX": OTHER,
        "UV_INDEX": OTHER,
        "UV_FIND_LINKS": "/wheels",
        "PIP_EXTRA_INDEX_URL": OTHER,
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CERT": "/ca.pem",
        "HTTPS_PROXY": "http://proxy.example",
    }

    assert index_variables(environ, INDEX, "/srv") == {
        "UV_DEFAULT_INDEX": INDEX,
        "SSL_CERT_FILE": "/ca.pem",
        "HTTPS_PROXY": "http://proxy.example",
    }


@pytest.mark.parametrize(
    ("variables", "secrets"),
    [
        ({"UV_DEFAULT_INDEX": "https://packages.example"}, ()),
        ({"UV_DEFAULT_INDEX": "https://ada:hunter2@packages.example"}, ("hunter2",)),
        ({"UV_DEFAULT_INDEX": "corp=https://ada:hun%40ter2@packages.example"}, ("hun%40ter2", "hun@ter2")),
        ({"UV_INDEX": "https://token0@a.example https://ada:hunter2@b.example"}, ("hunter2", "token0")),
        ({"UV_FIND_LINKS": "/wheels,https://ada:hunter2@b.example"}, ("hunter2",)),
        ({"UV_DEFAULT_INDEX": "https://b.example/simple?key=hunter2"}, ("hunter2",)),
        ({"UV_INDEX_CORP_PASSWORD": "hunter2", "UV_INDEX_CORP_USERNAME": "ada"}, ("hunter2",)),
        ({"HTTPS_PROXY": "http://ada:hunter2@proxy.example:3128"}, ("hunter2",)),
        ({"UV_DEFAULT_INDEX": "https://ada:@b.example"}, ()),
        ({"UV_DEFAULT_INDEX": "https://[::1"}, ()),
        # None of these is an address: each is quoted by who can not read it.
        ({"UV_DEFAULT_INDEX": "https://ada:hunt/er2@b.example/simple"}, ("hunt/er2",)),
        ({"UV_DEFAULT_INDEX": "https://ada:hunt#er2@b.example"}, ("hunt#er2",)),
        ({"UV_DEFAULT_INDEX": "https://ada:hunt?er2@b.example"}, ("hunt?er2",)),
        ({"UV_INDEX": "https://ada:hunt er2@b.example"}, ("hunt er2",)),
        ({"HTTPS_PROXY": "ada:hunter2@proxy.example:3128"}, ("hunter2",)),
        ({"SSL_CERT_FILE": "/etc/certificates@2/ca.pem"}, ()),
    ],
)
def test_what_must_not_be_shown_is_known(variables: dict[str, str], secrets: tuple[str, ...]) -> None:
    assert secrets_in(variables) == secrets


names = st.one_of(
    st.sampled_from(["PIP_INDEX_URL", "PIP_CERT", "UV_INDEX", "HOME", "PATH"]), st.text(max_size=20)
)


@given(st.dictionaries(names, st.text(max_size=60)), st.none() | st.just(INDEX))
def test_nothing_but_indexes_and_how_they_are_reached_is_ever_passed_on(
    environ: dict[str, str], index: str | None
) -> None:
    """Whatever the environment holds; and applied to what came out, it changes nothing."""
    passed = index_variables(environ, index, "/srv")

    assert all(name.startswith(("UV_", "SSL_")) or name.lower().endswith("_proxy") for name in passed)
    assert index_variables(passed, index, "/srv") == passed
    assert all(secrets_in(passed))

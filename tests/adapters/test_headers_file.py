"""A file of headers for an address: what it may hold, and that nothing of it is quoted."""

from pathlib import Path

import pytest

from router.adapters.addresses.connections import read_headers
from router.errors import OutboundFailed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("secret without a colon", "line 1 of headers_file is no `Name: value`"),
        ("\nHost: secret", "line 2 of headers_file names a header that is set here"),
        ("A: b\r\x00secret: c", "of headers_file is no `Name: value`"),
        ("A: " + "x" * 20_000, "longer than 16384 bytes"),
        (None, "can not be read: No such file or directory"),
    ],
)
def test_a_headers_file_that_can_not_be_used_is_named_and_never_quoted(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "headers"
    if content is not None:
        file.write_text(content)

    with pytest.raises(OutboundFailed, match=said) as failed:
        read_headers(str(file))

    assert "secret" not in str(failed.value)

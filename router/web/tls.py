"""TLS of a listener: a certificate that can be replaced while connections are open."""

import ssl

from router.errors import ConfigRefused
from router.settings import TlsSettings


class Certificate:
    """A certificate and its key. `context` goes to the listener; handshakes use what was read last."""

    def __init__(self, section: str, files: TlsSettings) -> None:
        """`section` is the configuration's name for it. Raises ConfigRefused when it can not be used."""
        self._section = section
        self._files = files
        self._newest = self.context = self.read()
        # Asked at each handshake, also of clients that name no server: connections that are open keep theirs.
        # A second certificate in the same context would stay beside the first, if its key is of another kind.
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """The certificate as it is in its files now; blocks. Raises ConfigRefused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        files = self._files
        try:
            # An encrypted key would otherwise be asked for on the terminal.
            context.load_cert_chain(files.certificate_file, files.key_file, password=_no_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise ConfigRefused(
                [f"{self._section}: the certificate or its key can not be used: {why}"]
            ) from None
        return context

    def use(self, context: ssl.SSLContext) -> None:
        """Let the next handshakes use what `read` returned."""
        self._newest = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase")

"""HTTPS, where the configuration names a certificate."""

import ssl

from outrider.gateway.config import GatewayConfig
from outrider.gateway.toml_file import ConfigError


def tls_context(config: GatewayConfig) -> ssl.SSLContext | None:
    """TLS 1.2 and newer with the certificate of the configuration; None where there is none.

    Raises:
        ConfigError: the files cannot be used.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    for name, path in (("tls_certificate", config.tls_certificate), ("tls_key", config.tls_key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{name} {path} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would ask for its password at the terminal.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"tls_certificate {config.tls_certificate} and tls_key {config.tls_key} are no pair of PEM files: {error}"
        ) from error
    return context

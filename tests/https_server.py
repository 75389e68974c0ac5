"""A server of HTTPS on loopback, with a certificate of an authority made for it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
_LOOPBACK = "127.0.0.1"


class _Empty(BaseHTTPRequestHandler):
    """To everything the answer is an object without bytes, on connections that stay."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def _certificate(name, key, *, issuer, signer, authority):
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        address = x509.IPAddress(ipaddress.ip_address(_LOOPBACK))
        made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return made.sign(signer, hashes.SHA256()).public_bytes(_PEM)


@contextmanager
def https_server(folder):
    """Yield its URL, and the file of the authority that a client must trust."""
    signer, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, own = folder / "authority.pem", folder / "own.pem"
    issuer = {"issuer": "authority", "signer": signer}
    authority.write_bytes(_certificate("authority", signer, authority=True, **issuer))
    private = key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    own.write_bytes(private + _certificate("server", key, authority=False, **issuer))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    with ThreadingHTTPServer((_LOOPBACK, 0), _Empty) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://{_LOOPBACK}:{server.server_address[1]}", authority
        finally:
            server.shutdown()
            thread.join()

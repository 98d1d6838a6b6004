"""A client's trust is read when a connection is secured, and is httpx's own then."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from modelops.contracts.trust import TrustLater


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_):
        pass


@pytest.fixture
def secured(tmp_path):
    """A server of TLS whose certificate signs itself; yields its URL and the certificate's file."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    certificate = tmp_path / "cert.pem"
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}", certificate
    server.shutdown()
    server.server_close()
    thread.join()


def test_who_is_not_trusted_is_refused(secured):
    with (
        httpx.Client(verify=TrustLater.new()) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(secured[0])


def test_who_is_trusted_by_the_environment_is_answered(secured, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secured[1]))
    with httpx.Client(verify=TrustLater.new()) as client:
        assert client.get(secured[0]).text == client.get(secured[0]).text == "here"


def test_nothing_is_read_before(monkeypatch):
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: pytest.fail("it was read"))
    with httpx.Client(verify=TrustLater.new()) as client, pytest.raises(httpx.ConnectError):
        client.get("http://localhost:1")

"""TLS for the link: the peer must show a certificate for its name, signed by the one CA given.

mbedtls does the work; its memory (on an ESP32 some 40 kB, docs/DESIGN.md) is not the GC heap's. The
handshake goes on with the stream's reads and writes, in steps that block some 0.1 s each. Tests:
host_tests/system/test_tls.py.
"""

import asyncio

try:
    import tls
except ImportError:
    import ssl as tls  # CPython


async def wrap(reader, writer, ca, host):
    """(reader, writer) of a TLS connection over one that stands.

    ca: certificate of the CA, PEM; host: name or address in the peer's certificate. Raises
    ValueError or OSError, also from the first reads and writes, if the peer is refused.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    raw = getattr(writer, "s", None)
    if raw is None:  # CPython
        context.load_verify_locations(cadata=ca)
        await writer.start_tls(context, server_hostname=host)
        return reader, writer
    context.load_verify_locations(ca.encode())
    safe = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    safe.setblocking(False)
    stream = asyncio.StreamReader(safe)
    return stream, stream

"""Reader of the log as Arrow, in a process of its own: `python -m bench.download PORT` prints seconds and events."""

from __future__ import annotations

import io
import socket
import sys
import time

import msgspec
import pyarrow as pa

REQUEST = (
    b"GET /v1/events HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
    b"Accept: application/vnd.apache.arrow.stream\r\n\r\n"
)


class Download(msgspec.Struct, frozen=True):
    """Seconds until the last byte of the answer, and its contents."""

    seconds: float
    events: int
    bytes: int


def download(port: int) -> Download:
    """Download the log; the clock stops before the answer is parsed."""
    pieces: list[bytes] = []
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(REQUEST)
        while piece := connection.recv(1 << 20):
            pieces.append(piece)
    seconds = time.perf_counter() - started
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode(errors="replace"))
    content = join_chunks(body)
    events = sum(batch.num_rows for batch in pa.ipc.open_stream(pa.BufferReader(content)))
    return Download(seconds, events, len(content))


def join_chunks(body: bytes) -> bytes:
    """Return the content of a chunked body (RFC 9112, 7.1); raise ValueError when its end is missing."""
    content, stream = io.BytesIO(), io.BytesIO(body)
    while size := int(stream.readline(), 16):
        content.write(stream.read(size))
        stream.readline()
    return content.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(download(int(sys.argv[1]))))

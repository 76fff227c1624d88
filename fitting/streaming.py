"""`thetafit stream`: lines with frames in, lines with poses out, through standard input or a socket on loopback."""

import json
import math
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from fitting.stream import JOINTS, Pose, Stream
from models.errors import InputError

HOST = "127.0.0.1"
LONGEST = 1 << 16  # bytes of a line; a frame takes about 1,500
EXPECTED = f"a line is one frame: {JOINTS} x 3 numbers as a JSON list, or {3 * JOINTS} numbers with spaces between"


def parse_frame(line: bytes) -> np.ndarray:
    """One line -> (22, 3) metres; NaN, or null in JSON, stands for what was not seen. Raises InputError."""
    try:
        text = line.decode()
        values = json.loads(text) if text.lstrip().startswith("[") else text.split()
        numbers = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{EXPECTED}; this one cannot be read ({error}).") from None
    if numbers.shape not in ((JOINTS, 3), (3 * JOINTS,)):
        raise InputError(f"{EXPECTED}; this one holds an array of shape {numbers.shape}.")
    return numbers.reshape(JOINTS, 3)


def answer(pose: Pose) -> dict[str, Any]:
    """A pose as JSON takes it: metres, radians, error_mm null where no joint was believed."""
    arrays = {name: getattr(pose, name) for name in ("thetas", "betas", "transl", "joints")}
    return {
        **{name: np.round(array.double().numpy(), 6).tolist() for name, array in arrays.items()},
        "error_mm": None if math.isnan(pose.error) else round(1000 * pose.error, 3),
        "seen": pose.seen.tolist(),
    }


@dataclass
class Record:
    """What happened on a stream of lines."""

    latencies: list[float] = field(default_factory=list)  # milliseconds from a whole line to the pose
    errors: list[float] = field(default_factory=list)  # metres, NaN for a bridged frame
    bad_lines: int = 0

    def __str__(self) -> str:
        text = f"{len(self.latencies)} frames, {int(np.isnan(self.errors).sum())} bridged, {self.bad_lines} bad lines"
        if self.latencies:
            median, high = np.percentile(self.latencies, (50, 99))
            text += f"; latency {median:.2f} ms (median), {high:.2f} ms (99th percentile)"
        if not np.isnan(self.errors).all():
            text += f"; joints {1000 * np.nanmean(self.errors):.1f} mm from the input's"
        return text


def answer_lines(stream: Stream, source: BinaryIO, sink: BinaryIO) -> Record:
    """Answer every line of source on sink, until source ends or nobody reads any more; empty lines are passed over."""
    record = Record()
    try:
        while line := source.readline(LONGEST):
            if line.strip():
                sink.write(json.dumps(_answer_line(stream, line, source, record)).encode() + b"\n")
                sink.flush()
    except ConnectionError:  # a broken pipe, a client that has gone
        pass
    return record


def _answer_line(stream: Stream, line: bytes, source: BinaryIO, record: Record) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        if len(line) == LONGEST:
            while line and not line.endswith(b"\n"):
                line = source.readline(LONGEST)
            raise InputError(f"{EXPECTED}; this one is longer than {LONGEST} bytes.")
        pose = stream(parse_frame(line))
    except InputError as error:
        record.bad_lines += 1
        return {"error": str(error)}
    latency = 1000 * (time.perf_counter() - start)
    record.latencies.append(latency)
    record.errors.append(pose.error)
    return answer(pose) | {"latency_ms": round(latency, 3)}


def stream_lines(fps: float, body: str | None, port: int | None) -> int:
    """Standard input to standard output; or with a port, clients of 127.0.0.1 one after the other until Ctrl-C."""
    if port is not None and not 0 <= port <= 65535:
        raise InputError(f"--port is {port}; expected 1 to 65535, or 0 for any free one.")
    stream = Stream(fps, body)
    try:
        if port is None:
            print(answer_lines(stream, sys.stdin.buffer, sys.stdout.buffer), file=sys.stderr)
        else:
            _serve(stream, port)
    except KeyboardInterrupt:
        pass
    return 0


def _serve(stream: Stream, port: int) -> None:
    """Answer one client at a time; each is another person."""
    try:
        server = socket.create_server((HOST, port))
    except OSError as error:
        raise InputError(
            f"port {port} of {HOST} cannot be used ({error.strerror}). --port 0 takes a free one."
        ) from None
    with server:
        print(f"listening on {HOST}:{server.getsockname()[1]}", file=sys.stderr, flush=True)
        while True:
            client, _ = server.accept()
            stream.reset()
            with client, client.makefile("rb") as source, client.makefile("wb") as sink:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                print(answer_lines(stream, source, sink), file=sys.stderr, flush=True)

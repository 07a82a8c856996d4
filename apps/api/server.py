"""The service behind uvicorn: it listens before the model is loaded, and finishes what has begun."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from apps.api.settings import ServeOptions
from apps.api.starting import Starting
from apps.console import say, warn
from apps.listening import address_of, bind

if TYPE_CHECKING:
    from fastapi import FastAPI

    from composer.engine.engine import Engine

HEADER_SECONDS = 20.0
"""A connection that has sent no whole header by then is closed."""
CLOSING_SECONDS = 5
"""For answers that are being sent when the engine has finished."""
SWITCH_SECONDS = 0.0005
"""For so long a thread keeps the interpreter from others. The device's thread lets go of it in every
operation of torch, hundreds for an image, and would wait for Python's 5 ms each time."""


class ComposerServer:
    """One server, from loading to draining.

    Args:
        options: see :class:`ServeOptions`.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._engine: Engine | None = None
        self._error: BaseException | None = None
        self._began = time.monotonic()
        self._address = ""
        starting = Starting(self._build, ready=self._announce, failed=self._fail)
        config = uvicorn.Config(
            starting,
            http=ImpatientProtocol,
            ws="none",
            log_level="info" if options.access_log else "warning",
            access_log=options.access_log,
            proxy_headers=options.proxies is not None,
            forwarded_allow_ips=options.proxies or "",
            server_header=False,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
        self._server = _DrainingServer(config, self._drain)

    def run(self) -> None:
        """Serve until a signal says to stop; then finish what has begun.

        Raises:
            EnvironmentProblem: the address cannot be listened at, or the device is not there.
            SamComposerError: the model, a page or a setting is at fault.
        """
        listening = bind(self._options.host, self._options.port)
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            self._address = address_of(listening)
            # uvicorn does so a little later: a Ctrl-C in between would be lost, or end it with an error.
            with self._server.capture_signals():
                say(f"listening at {self._address}, loading {self._options.preset}")
                self._server.run(sockets=[listening])
        finally:
            sys.setswitchinterval(usual)
            gc.unfreeze()  # what is left at the exit is to be found then
            listening.close()
            if self._engine is not None:
                self._engine.drain(0)
        if self._error is not None:
            raise self._error

    def _build(self) -> FastAPI:
        """In a thread: load everything that the first request would otherwise wait for."""
        gc.disable()  # what is made here stays: to look through it again and again would find nothing
        try:
            from apps.api.building import build

            app, service = build(self._options, self._demo_there)
        finally:
            gc.enable()
        # Left out of collections from now on: they are short then, and come before images pile up in garbage.
        gc.freeze()
        self._engine = service.engine
        return app

    def _announce(self) -> None:
        say(f"ready at {self._address} after {self._elapsed()} (Ctrl-C ends it)")

    def _demo_there(self) -> None:
        gc.collect()  # what requests have left by now is not to stay
        gc.freeze()
        say(f"the demo, too, after {self._elapsed()}")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._server.should_exit = True

    def _drain(self) -> None:
        """At the first signal: no new jobs, and what is here gets its time."""
        if self._engine is not None:
            seconds = self._options.limits.drain_seconds
            if not self._engine.drain(seconds):
                warn(f"requests that were not finished in {seconds:g} s were broken off")


class _DrainingServer(uvicorn.Server):
    """Goes on listening while the engine finishes, so that ``/readyz`` can tell; then stops, exit code 0."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second stops at once."""
        if self._draining:
            self.force_exit = sig == signal.SIGINT
            self.should_exit = True
            return
        self._draining = True
        threading.Thread(target=self._finish, name="drain", daemon=True).start()

    def _finish(self) -> None:
        try:
            self._drain()
        finally:
            self.should_exit = True


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever for a header: half-open connections cost files."""

    _patience = None

    def connection_made(self, transport: object) -> None:
        """A client has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._patience = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; with a whole header the application's own deadline takes over."""
        super().data_received(data)
        silent = self.conn.their_state is h11.IDLE
        if silent and self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)
        elif not silent and self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        self._patience = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

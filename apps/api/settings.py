"""What whoever runs the server may choose. Light: it is read before the model is loaded."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from composer.allowed_models import AllowedModels
from composer.limits import Limits, shipped_limits
from sam.errors import UsageError

TOKENS_VARIABLE = "SAM_COMPOSER_TOKENS"
MIN_TOKEN = 16
DEMO = "apps.demo"


@dataclass(frozen=True)
class ServiceSettings:
    """What whoever runs the server may choose, beside the limits.

    Attributes:
        tokens: SHA-256 of accepted bearer tokens -> name of the client; empty: everybody is let in.
        quota: calls a minute of one client that use the model; None: as many as the queue takes.
        origins: web pages of other hosts that may call the API (CORS); none unless named.
        allowed: models beside the preset's own that requests may name.
    """

    tokens: Mapping[bytes, str] = field(default_factory=dict)
    quota: int | None = None
    origins: tuple[str, ...] = ()
    allowed: AllowedModels = field(default_factory=AllowedModels)

    def client_of(self, token: str) -> str | None:
        """Whose token it is; None: nobody's. Takes as long for a wrong token as for a right one."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in self.tokens.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


@dataclass(frozen=True)
class ServeOptions:
    """The options of one server.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        preset, checkpoint, device, precision: see :meth:`composer.Composer.load`.
        limits: what is accepted.
        settings: tokens, quota and the like.
        demo: whether the demo is at ``/``.
        projects: photos of the annotator at ``/annotate``; None: there is none.
        proxies: addresses whose ``X-Forwarded-For`` is believed, between commas.
        access_log: a line on stderr for each request.
    """

    host: str
    port: int
    preset: str = "tiny"
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    limits: Limits = field(default_factory=shipped_limits)
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    demo: bool = False
    projects: Path | None = None
    proxies: str | None = None
    access_log: bool = False


def read_tokens(path: Path | None) -> dict[bytes, str]:
    """Bearer tokens of a file, or of the variable ``SAM_COMPOSER_TOKENS`` where there is no file.

    One a line (or between commas), ``name:token`` or the token alone, of at least 16 letters, digits and
    ``-._~+/=``; empty lines and lines that begin with ``#`` are skipped.

    Raises:
        UsageError: the file cannot be read, holds no token, or one that is too short or of other characters.
    """
    if path is None:
        source, text = TOKENS_VARIABLE, os.environ.get(TOKENS_VARIABLE, "").replace(",", "\n")
        if not text.strip():
            return {}
    else:
        source = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as a file of tokens", field="token-file") from error
    found: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, _, token = entry.rpartition(":")
        if not re.fullmatch(rf"[A-Za-z0-9\-._~+/=]{{{MIN_TOKEN},}}", token):
            raise UsageError(
                f"{source}:{number}: a token has at least {MIN_TOKEN} letters, digits or -._~+/=; make one "
                "with `openssl rand -hex 32`",
                field="token-file",
            )
        digest = hashlib.sha256(token.encode()).digest()
        found[digest] = name.strip() or f"token-{digest.hex()[:8]}"
    if not found:
        raise UsageError(f"{source}: holds no token", field="token-file")
    return found


def has_demo() -> bool:
    """Whether the demo is installed; nothing is imported for it."""
    return all(importlib.util.find_spec(name) is not None for name in (DEMO, "gradio"))

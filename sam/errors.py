"""The one error tree of the project.

Every error that a user can cause has a stable ``code`` (used in logs and over HTTP), the process exit
code that the command line answers with, and the HTTP status that the service answers with. The message
says what was wrong, what was expected and what to do; it never needs a traceback to be understood.
"""

from __future__ import annotations


class SamComposerError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        code: stable identifier in snake_case, e.g. ``image_corrupt``.
        field: the argument or request field at fault, if there is one.
        allowed: what would have been accepted, as plain JSON values: ``{"min": 1, "max": 256}``, or the list
            of known names. None where the message says it better.
    """

    exit_code: int = 1
    http_status: int = 500
    default_code: str = "internal"

    def __init__(
        self, message: str, *, code: str | None = None, field: str | None = None, allowed: object = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.field = field
        self.allowed = allowed


class UsageError(SamComposerError):
    """The call itself is wrong: unknown name, conflicting options, an output folder of another run."""

    exit_code, http_status, default_code = 2, 422, "usage"


class BadImage(SamComposerError):
    """The bytes are not an image that we accept."""

    exit_code, http_status, default_code = 3, 422, "image_corrupt"


class BadPrompt(SamComposerError):
    """A request's values do not fit the image or each other."""

    exit_code, http_status, default_code = 3, 422, "prompt_invalid"


class BadAnnotation(SamComposerError):
    """A ground-truth or results file contradicts itself or the images beside it."""

    exit_code, http_status, default_code = 3, 422, "annotation_invalid"


class CheckpointError(SamComposerError):
    """A weights file is missing, damaged, or belongs to another model."""

    exit_code, http_status, default_code = 5, 500, "checkpoint_invalid"


class EnvironmentProblem(SamComposerError):
    """The machine cannot do what was asked: no such device, disk full, a package missing or shadowed."""

    exit_code, http_status, default_code = 6, 500, "environment"


class Unavailable(SamComposerError):
    """A service cannot take or finish this now: its queue is full, it is shutting down, memory ran out.

    Attributes:
        retry_after: seconds after which to try again.
    """

    exit_code, http_status, default_code = 6, 503, "unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        allowed: object = None,
        retry_after: int = 1,
    ) -> None:
        super().__init__(message, code=code, field=field, allowed=allowed)
        self.retry_after = retry_after


class DeadlineExceeded(SamComposerError):
    """The answer was not ready when it was due; the work is broken off."""

    exit_code, http_status, default_code = 6, 504, "deadline_exceeded"


class Cancelled(SamComposerError):
    """Whoever asked has gone; nobody sees this but the log."""

    exit_code, http_status, default_code = 6, 499, "cancelled"

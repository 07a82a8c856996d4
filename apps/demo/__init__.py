"""The demo in the browser: one photo, asked in eight ways. Run it by itself with ``python -m apps.demo``.

Nothing of gradio is imported before a demo is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

    from composer.composer import Composer
    from composer.engine.engine import Engine
    from composer.limits import Limits

MAX_QUEUE = 16
"""Questions that wait; the next visitor is told that the queue is full."""


def build_demo(model: Composer | Engine) -> gradio.Blocks:
    """The page with its events and its named endpoints. :func:`mount_demo` adds its looks.

    Args:
        model: a started engine, or a composer, around which one is started that ends with the process. It
            answers, one question at a time, and encodes a photo once for all tabs and endpoints.
    """
    from apps.demo.page import build, in_a_loop
    from composer.engine.engine import Engine

    engine = model if isinstance(model, Engine) else Engine(model).start()
    return in_a_loop(lambda: build(engine, MAX_QUEUE))


def page_options(limits: Limits) -> dict[str, Any]:
    """Arguments of ``gradio.mount_gradio_app`` and ``Blocks.launch``: theme, styles, script, limits.

    Nothing among them makes the page load anything from another host.
    """
    from apps.demo.theme import make_theme

    here = Path(__file__).parent
    # Not as css_paths: gradio rewrites the selectors there, and some inside of @media match nothing then.
    styles = (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    return {
        "theme": make_theme(),
        "head": f"<style>{styles}</style><script>{script}</script>",
        "favicon_path": str(here / "icon.svg"),
        "footer_links": ["api"],
        "max_file_size": limits.max_body_bytes,
        "show_error": True,
        "ssr_mode": False,
        "run_history": False,
        "pwa": False,
        "mcp_server": False,
    }


def mount_demo(app: FastAPI, model: Composer | Engine, path: str = "/") -> FastAPI:
    """Put the demo into a FastAPI application, at ``path``. Routes that were added before it go first.

    Args:
        app: the application.
        model: see :func:`build_demo`.
        path: where the page is.
    """
    import gradio

    from apps.demo.page import in_a_loop
    from composer.engine.engine import Engine

    composer = model.composer if isinstance(model, Engine) else model
    options = page_options(composer.limits)
    if path != "/":
        options.pop("favicon_path")
    mounted: FastAPI = in_a_loop(lambda: gradio.mount_gradio_app(app, build_demo(model), path, **options))
    return mounted

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

MAX_QUEUE = 16
"""Questions that wait; the next visitor is told that the queue is full."""


def build_demo(composer: Composer) -> gradio.Blocks:
    """The page with its events and its named endpoints. :func:`mount_demo` adds its looks.

    Args:
        composer: answers; a photo is encoded once for all tabs and endpoints.
    """
    from apps.demo.page import build, in_a_loop

    return in_a_loop(lambda: build(composer, MAX_QUEUE))


def page_options(composer: Composer) -> dict[str, Any]:
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
        "max_file_size": composer.limits.max_body_bytes,
        "show_error": True,
        "ssr_mode": False,
        "run_history": False,
        "pwa": False,
        "mcp_server": False,
    }


def mount_demo(app: FastAPI, composer: Composer, path: str = "/") -> FastAPI:
    """Put the demo into a FastAPI application, at ``path``. Routes that were added before it go first."""
    import gradio

    options = page_options(composer)
    if path != "/":
        options.pop("favicon_path")
    mounted: FastAPI = gradio.mount_gradio_app(app, build_demo(composer), path, **options)
    return mounted

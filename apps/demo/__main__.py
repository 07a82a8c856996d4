"""``python -m apps.demo``: the demo by itself."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from sam.errors import SamComposerError


def main(arguments: list[str] | None = None) -> int:
    """Load a preset, serve the page, and wait. Returns an exit code as the command line does."""
    parser = argparse.ArgumentParser(prog="python -m apps.demo", description="The demo in the browser.")
    parser.add_argument("--preset", default="tiny", help="a name, or a YAML file (default: tiny)")
    parser.add_argument("--checkpoint", help="weights in place of the preset's own")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limits", type=Path, help="YAML with limits that differ from the shipped ones")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        from apps.demo import build_demo, page_options
        from composer.composer import Composer
        from composer.limits import Limits, shipped_limits

        composer = Composer.load(
            options.preset,
            checkpoint=options.checkpoint,
            device=options.device,
            precision=options.precision,
            limits=Limits.from_file(options.limits) if options.limits else shipped_limits(),
        )
        demo = build_demo(composer)
        demo.launch(
            server_name=options.host,
            server_port=options.port,
            prevent_thread_lock=True,
            quiet=True,
            **page_options(composer.limits),
        )
    except SamComposerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:  # the port is taken
        sys.stderr.write(f"error: {error}\n")
        return 6
    seconds = time.perf_counter() - started
    sys.stdout.write(f"http://{options.host}:{options.port} after {seconds:.1f} s; Ctrl-C ends it\n")
    sys.stdout.flush()
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())

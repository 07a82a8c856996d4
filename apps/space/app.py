"""Entry of a hosted Space: the demo with the embedded preset, on the address that the host expects."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a Space does not install the repository itself

from apps.demo.__main__ import main

if __name__ == "__main__":
    os.environ.setdefault("GRADIO_SERVER_NAME", "0.0.0.0")  # noqa: S104 - a Space is a container of its own
    sys.exit(main([]))

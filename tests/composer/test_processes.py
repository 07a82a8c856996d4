"""Helping processes: they work, and none outlives the process that it works for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from composer.processes import worker_pool

PARENT = """
import os, time
from composer.processes import worker_pool

if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_the_work_is_done_elsewhere() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def test_a_killed_parent_takes_them_along(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert worker != parent.pid
        parent.kill()
        try:
            # Its workers hold the same pipe, which ends when the last of them does.
            assert parent.communicate(timeout=60)[0] == ""
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise

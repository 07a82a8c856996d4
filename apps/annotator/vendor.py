"""Fetch onnxruntime-web, with which the annotator's page decodes masks in the browser.

    python -m apps.annotator.vendor [--force]

Asks npm for the pinned version, checks its digest, and puts the few files that are needed into
``apps/annotator/page/vendor/``, which git ignores. Nothing of it runs here, and nothing is built.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from composer.formats.atomic import write_bytes
from sam.errors import EnvironmentProblem, SamComposerError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
FILES = (
    # For the CPU, with SIMD and threads;
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    # and for the GPU, loaded only where the browser has WebGPU.
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
PAGE = Path(__file__).resolve().parent / "page"
TARGET = PAGE / "vendor"
REMEDY = f"in a checkout run `{Path(sys.executable).name} -m apps.annotator.vendor` (needs npm)"


def present(target: Path = TARGET) -> bool:
    """Whether all files of the pinned version are in ``target``."""
    stamp = target / "VERSION"
    return (
        stamp.is_file()
        and stamp.read_text().strip() == f"{PACKAGE} {VERSION}"
        and all((target / name).is_file() for name in FILES)
    )


def fetch(target: Path = TARGET) -> None:
    """Put the files into ``target``.

    Raises:
        EnvironmentProblem: npm is missing or fails, the package is not the pinned one, or the files cannot be
            written.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentProblem(
            "npm is not installed, so the annotator's runtime cannot be fetched; install Node.js with npm "
            "(on Debian and Ubuntu the package npm) and run this again",
            code="npm_missing",
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = _packed(npm, Path(folder))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != SHA256:
            raise EnvironmentProblem(
                f"{PACKAGE} {VERSION} from npm has the SHA-256 {digest}, "
                f"expected {SHA256}; nothing was installed",
                code="npm_digest",
            )
        _unpack(archive, target)


def _packed(npm: str, folder: Path) -> Path:
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)  # noqa: S603
    archive = folder / f"{PACKAGE}-{VERSION}.tgz"
    if ended.returncode or not archive.is_file():
        reason = (ended.stderr or ended.stdout).strip().splitlines() or ["no reason given"]
        raise EnvironmentProblem(
            f"npm could not fetch {PACKAGE} {VERSION}: {reason[-1]}; check the network and run this again",
            code="npm_failed",
        )
    return archive


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as content:
        for name in FILES:
            member = content.extractfile(f"package/dist/{name}")
            assert member is not None, f"{name} is in the package whose digest was checked"
            write_bytes(target / name, member.read())
    # Last: where it is, all of it is.
    write_bytes(target / "VERSION", f"{PACKAGE} {VERSION}\n".encode())


def main() -> int:
    """The script: an exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--force", action="store_true", help="fetch again what is there")
    parser.add_argument("--optional", action="store_true", help="without npm say so and end with 0")
    options = parser.parse_args()
    if present() and not options.force:
        return 0
    try:
        fetch()
    except SamComposerError as error:
        sys.stderr.write(f"error: {error}\n")
        if options.optional:
            sys.stderr.write(
                "The annotator (`sam-composer annotate`) will not decode in the browser until then.\n"
            )
            return 0
        return error.exit_code
    sys.stdout.write(f"{PACKAGE} {VERSION} is in {TARGET}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Make ``.venv`` from the lock files, or say in one line what this machine lacks.

Runs before anything is installed: standard library only, and readable by an old Python, so that it can say
that it is too old. Does nothing when the venv already fits the lock files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
UV_LOCK = ROOT / "scripts" / "requirements-uv.lock"
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-dev.lock", UV_LOCK]
OLDEST, TOO_NEW = (3, 11), (3, 14)
OLDEST_UV = (0, 4)
OLDEST_GLIBC = (2, 34)


class MissingError(Exception):
    """Raised with one line that says what is missing and how to get it."""


def main() -> int:
    """Install and return 0, or print one line and return 1."""
    try:
        check_machine()
        install()
    except MissingError as error:
        sys.stderr.write(f"make: {error}" + "\n")
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd[:4])
        sys.stderr.write(f"make: {command} ... ended with {error.returncode}, see above" + "\n")
        return 1
    return 0


def check_machine() -> None:
    """Raise MissingError naming everything that apt-get would have to bring."""
    if not sys.platform.startswith("linux") or os.uname().machine not in ("x86_64", "aarch64"):
        raise MissingError(
            "the embedded PostgreSQL exists for Linux on x86_64 and aarch64 only, "
            f"not for {sys.platform} {os.uname().machine}"
        )
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "no glibc").partition(" ")
    if name != "glibc" or _numbers(version) < OLDEST_GLIBC:
        raise MissingError(f"glibc 2.34 or newer is needed (Debian 12, Ubuntu 22.04), this is {name} {version}")
    packages = [package for package, there in _system_packages().items() if not there]
    if packages:
        names = " ".join(packages)
        raise MissingError(f"missing: {names}; get it with: sudo apt-get install {names}")


def install() -> None:
    """Bring ``.venv`` to exactly what the lock files say; nothing happens when it already is."""
    wanted = _wanted()
    if _installed() == wanted:
        return
    started = time.monotonic()
    uv = _uv_on_path()
    python = find_python()
    if not _venv_fits(wanted):
        if VENV.exists():
            shutil.rmtree(str(VENV))
        _make_venv(python, uv)
    if uv is None:
        _run(
            [
                str(VENV_PYTHON),
                "-m",
                "pip",
                "install",
                "-qq",
                "--require-hashes",
                "--no-deps",
                "--disable-pip-version-check",
                "-r",
                str(UV_LOCK),
            ],
            dict(os.environ),
        )
        uv = str(VENV / "bin" / "uv")
    locks = [str(path) for path in LOCKS]
    # Compiled once here: where PYTHONDONTWRITEBYTECODE is set, each of the many processes would do it anew.
    _run([uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(VENV_PYTHON), "--require-hashes", *locks],
         uv_environment(os.environ))  # fmt: skip
    STAMP.write_text(json.dumps(wanted, indent=1) + "\n")
    sys.stdout.write(f"installed .venv in {time.monotonic() - started:.0f} s\n")


def find_python() -> str:
    """Return the running interpreter, or another on PATH when its version does not fit."""
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        found = shutil.which(name)
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return found
    raise MissingError(
        f"python3 is {sys.version_info[0]}.{sys.version_info[1]}, 3.11 to 3.13 is needed; "
        "install one, with its venv module, and run: make PYTHON=/path/to/it demo"
    )


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv: the user's own, with pip's settings where uv has none of its own.

    uv reads UV_* only; a user who has set PIP_INDEX_URL means both.
    """
    environment = dict(environ)
    pairs = (
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    )
    for of_pip, of_uv in pairs:
        if environment.get(of_pip) and not environment.get(of_uv):
            environment[of_uv] = environment[of_pip]
    environment.pop("VIRTUAL_ENV", None)
    return environment


def _make_venv(python: str, uv: str | None) -> None:
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", python, str(VENV)], uv_environment(os.environ))
        return
    if subprocess.call([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL) != 0:
        raise MissingError("missing: python3-venv; get it with: sudo apt-get install python3-venv")
    _run([python, "-m", "venv", str(VENV)], dict(os.environ))


def _wanted() -> dict[str, str]:
    digest = hashlib.sha256()
    for path in LOCKS:
        digest.update(path.read_bytes())
    return {"locks": digest.hexdigest(), "folder": str(VENV)}


def _installed() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    # A venv breaks when the Python that it points to is gone.
    return stamp if isinstance(stamp, dict) and VENV_PYTHON.exists() else {}


def _venv_fits(wanted: dict[str, str]) -> bool:
    return _installed().get("folder") == wanted["folder"] and (VENV / "bin" / "uv").exists()


def _uv_on_path() -> str | None:
    found = shutil.which("uv")
    if found is None:
        return None
    answer = subprocess.run([found, "--version"], stdout=subprocess.PIPE, text=True, check=False)
    words = answer.stdout.split()
    return found if answer.returncode == 0 and len(words) > 1 and _numbers(words[1]) >= OLDEST_UV else None


def _system_packages() -> dict[str, bool]:
    return {
        "util-linux": shutil.which("setpriv") is not None,
        "tzdata": Path("/usr/share/zoneinfo/UTC").exists(),
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _run(argv: list[str], environment: dict[str, str]) -> None:
    subprocess.run(argv, check=True, env=environment, cwd=str(ROOT))


if __name__ == "__main__":
    sys.exit(main())

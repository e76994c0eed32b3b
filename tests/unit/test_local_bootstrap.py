"""Making ``.venv``: what a machine lacks is said in one line, and the user's own index settings count."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import bootstrap, lock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with lock files of its own."""
    (tmp_path / "scripts").mkdir()
    locks = [tmp_path / "requirements.lock", tmp_path / "scripts" / "uv.lock"]
    for path in locks:
        path.write_text("")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "LOCKS", locks)
    monkeypatch.setattr(bootstrap, "UV_LOCK", locks[-1])
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "VENV_PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "installed.json")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_missing_programs_and_data_are_named_with_the_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "_system_packages", lambda: {"util-linux": False, "tzdata": False, "jq": True})
    assert bootstrap.main() == 1
    assert said(capsys) == "make: missing: util-linux tzdata; get it with: sudo apt-get install util-linux tzdata\n"


def test_a_python_without_ensurepip_is_told_to_get_python3_venv(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = project / "python-without-ensurepip"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_uv_on_path", lambda: None)
    monkeypatch.setattr(bootstrap, "find_python", lambda: str(bare))
    assert bootstrap.main() == 1
    assert "sudo apt-get install python3-venv" in said(capsys)
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_that_does_not_fit_is_named_unless_another_is_on_the_path(
    version: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.MissingError, match=re.escape(f"python3 is {version[0]}.{version[1]}, 3.11 to 3.13")):
        bootstrap.find_python()
    other = tmp_path / "python3.12"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    assert bootstrap.find_python() == str(other)


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert bootstrap.main() == 1
    assert "Linux on x86_64 and aarch64 only, not for darwin" in said(capsys)


def test_an_old_glibc_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.confstr", lambda name: "glibc 2.31")
    assert bootstrap.main() == 1
    assert "glibc 2.34 or newer" in said(capsys)


def test_pips_settings_count_for_uv_where_it_has_none_of_its_own() -> None:
    found = bootstrap.uv_environment(
        {"PIP_INDEX_URL": "https://mirror/simple", "PIP_CERT": "/ca.pem", "UV_INDEX": "https://own", "HOME": "/root"}
    )
    assert found["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert found["UV_INDEX"] == "https://own"
    assert found["HOME"] == "/root"
    own = {"PIP_INDEX_URL": "https://mirror", "UV_DEFAULT_INDEX": "https://own"}
    assert bootstrap.uv_environment(own)["UV_DEFAULT_INDEX"] == "https://own"


def test_nothing_is_installed_when_the_venv_fits_and_again_when_a_lock_changes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def run(argv: list[str], environment: dict[str, str]) -> None:
        calls.append(argv)
        (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        (project / ".venv" / "bin" / "python").touch()
        (project / ".venv" / "bin" / "uv").touch()

    monkeypatch.setattr(bootstrap, "_run", run)
    monkeypatch.setattr(bootstrap, "_uv_on_path", lambda: None)
    bootstrap.install()
    assert [" ".join(argv[1:4]) for argv in calls] == [
        "-m venv " + str(project / ".venv"),
        "-m pip install",
        "pip sync --quiet",
    ]
    assert all("--require-hashes" in argv for argv in calls[1:])
    calls.clear()
    bootstrap.install()
    assert calls == []
    (project / "requirements.lock").write_text("x==1\n")
    bootstrap.install()
    assert [argv[1] for argv in calls][-1] == "pip"
    assert json.loads((project / ".venv" / "installed.json").read_text())["folder"] == str(project / ".venv")


def test_a_venv_whose_python_is_gone_is_made_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(bootstrap, "_make_venv", lambda python, uv: made.append(python))
    monkeypatch.setattr(bootstrap, "_uv_on_path", lambda: "uv")
    monkeypatch.setattr(bootstrap, "_run", lambda argv, environment: None)
    (project / ".venv" / "bin").mkdir(parents=True)
    bootstrap.STAMP.write_text(json.dumps({"locks": "x", "folder": str(project / ".venv")}))
    (project / ".venv" / "left over").touch()
    monkeypatch.setattr(bootstrap, "STAMP", project / "installed.json")
    bootstrap.install()
    assert len(made) == 1
    assert not (project / ".venv" / "left over").exists()


def test_the_bootstrap_can_be_read_by_an_old_python() -> None:
    """It has to say that a Python is too old; so nothing newer than 3.7's grammar may be in it."""
    import ast

    ast.parse((ROOT / "scripts" / "bootstrap.py").read_text(), feature_version=(3, 7))


def test_lock_files_hold_hashes_and_no_address_of_an_index() -> None:
    for _, name in lock.PAIRS:
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index-url" not in text


def test_help_is_the_default_target_and_names_every_other() -> None:
    make = shutil.which("make")
    assert make is not None
    shown = subprocess.run([make, "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True)
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target} " in shown.stdout

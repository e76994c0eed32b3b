"""Fill in a template of this folder: ``python -m include.aws.render bucket-policy --bucket B … > policy.json``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from include.backup.errors import ParameterError

FOLDER = Path(__file__).parent
TEMPLATES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
NAMES = {
    "BUCKET": "the bucket of the backups",
    "LOG_BUCKET": "the bucket of the task logs",
    "FILES_BUCKET": "a bucket of the source's files",
    "KEY_ARN": "ARN of the KMS key",
    "WRITER_ROLE_ARN": "ARN of the role of the workers",
    "CLEANER_ROLE_ARN": "ARN of the role that may delete what has expired",
    "READER_ROLE_ARN": "ARN of the role that only reads",
    "ADMIN_ROLE_ARN": "ARN of the role that may change buckets and key",
}


def render(template: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a template with its placeholders filled in; raises ParameterError naming what is missing.

    >>> render("iam-files", {"FILES_BUCKET": "files"})["Statement"][0]["Resource"][0]
    'arn:aws:s3:::files'
    """
    text = (FOLDER / f"{template}.json").read_text(encoding="utf-8")
    missing = sorted({name for name in PLACEHOLDER.findall(text) if not values.get(name)})
    if missing:
        options = ", ".join(_option(name) for name in missing)
        raise ParameterError(f"the template {template} also needs {options}")
    # A quote in a value must not end the string that it stands in.
    filled: dict[str, Any] = json.loads(PLACEHOLDER.sub(lambda match: json.dumps(values[match[1]])[1:-1], text))
    return filled


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one template filled in; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.aws.render", description=__doc__)
    parser.add_argument("template", choices=TEMPLATES)
    for name, meaning in NAMES.items():
        parser.add_argument(_option(name), dest=name, help=meaning)
    options = vars(parser.parse_args(arguments))
    try:
        filled = render(options.pop("template"), options)
    except ParameterError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(filled, indent=2) + "\n")
    return 0


def _option(name: str) -> str:
    return "--" + name.lower().replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())

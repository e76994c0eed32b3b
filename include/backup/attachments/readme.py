"""What lies in the tar beside the files, for the day when this project is gone."""

from __future__ import annotations

import json
from collections.abc import Iterable

from include.backup.attachments.record import AttachedFile

README_FILE = "README.txt"
INDEX_FILE = "index.jsonl"
_TEXT = """\
Attachments {backup_id}
of the database backup {recovery_point}

This is a plain tar file. It holds
  files/<bucket>/<key>   the objects whose keys are harmless paths
  hashed/<sha256>        the others, named by the SHA-256 of bucket, a zero byte, and key
  index.jsonl            one line a file: bucket, key, content type, metadata, SHA-256, and where its bytes are

A file whose line has an "archive" did not change since that backup: its bytes are the member of that name in
<archive>.tar, beside this one. A member that no line names was cut short because its object changed or vanished while
it was read; it is filled up with zeros and is not a file.

To restore with nothing but tar and Python:

  tar -xf {backup_id}.tar      # and those that index.jsonl names
  python3 -c "import json; [print(f['member'], f['key']) for f in map(json.loads, open('index.jsonl'))]"
"""


def attachments_readme(backup_id: str, *, recovery_point: str) -> bytes:
    """Return the text of README.txt."""
    return _TEXT.format(backup_id=backup_id, recovery_point=recovery_point).encode()


def index_lines(files: Iterable[AttachedFile]) -> bytes:
    """Return the index; keys that are not UTF-8 are escaped."""
    lines = (
        json.dumps(
            {
                "bucket": file.bucket,
                "key": file.key,
                "member": file.member,
                "archive": file.archive,
                "size": file.size,
                "sha256": file.sha256,
                "content_type": file.content_type,
                "metadata": dict(file.metadata),
            }
        )
        for file in files
    )
    return "".join(f"{line}\n" for line in lines).encode()

"""Keys of an allocation as provision scripts (``spec/ensemble.md`` 2.6): whatever runs scripts can be given keys.

An ``ssh`` key without a destination is added to the authorized keys of the user that the engine's parameters name, root
unless given. Every other key becomes a file that only its owner can read. The scripts need a shell and nothing but
``mkdir``, ``chmod`` and ``chown``; a key is quoted, so nothing in it is executed.
"""

from __future__ import annotations

import shlex

from dms.ensemble.config import AllocationConfig, KeyConfig

DEFAULT_USER = "root"
AUTHORIZED_KEYS = ".ssh/authorized_keys"

_PREAMBLE = """\
#!/bin/sh
set -eu
umask 077
user=%s
home=
while IFS=: read -r name _ _ _ _ directory _; do
  if [ "$name" = "$user" ]; then home=$directory; fi
done </etc/passwd || true
if [ -z "$home" ]; then
  if [ "$user" = root ]; then home=/root; else home=/home/$user; fi
fi
"""


def key_scripts(allocation: AllocationConfig) -> dict[str, bytes]:
    """By names that no script of an ensemble can have, in the order of the keys."""
    user = allocation.execution.params.get("user")
    owner = user if isinstance(user, str) and user else DEFAULT_USER
    return {f"_key-{index:03d}": _script(key, owner) for index, key in enumerate(allocation.keys)}


def _script(key: KeyConfig, owner: str) -> bytes:
    body = _PREAMBLE % shlex.quote(owner)
    is_added = key.type == "ssh" and not key.dest
    if is_added:
        body += f"file=$home/{AUTHORIZED_KEYS}\n"
    elif key.dest.startswith("/"):
        body += f"file={shlex.quote(key.dest)}\n"
    else:
        body += f"file=$home/{shlex.quote(key.dest.removeprefix('~/'))}\n"
    body += 'mkdir -p "${file%/*}"\n'
    content = shlex.quote(key.file.rstrip("\n"))
    body += f"printf '%s\\n' {content} {'>>' if is_added else '>'}\"$file\"\n"
    body += 'chmod 600 "$file"\n'
    body += (
        'if [ "$user" != root ]; then chown "$user" "${file%/*}" "$file"; fi\n'
        if is_added
        else ('if [ "$user" != root ]; then chown "$user" "$file"; fi\n')
    )
    return body.encode()

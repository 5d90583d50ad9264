#!/usr/bin/env bash
# optuna 5.0.0: the lock of a journal file is a symbolic link whose target is the file's path as it was given. Of a
# relative path with a folder in it ("runs/journal.log") the link is read from its own folder, where it leads nowhere:
# the lock is held, and yet os.path.exists says that it is not there, and os.stat of it fails. Optuna tells by that stat
# how old a lock is, so the age of such a lock is never known, and the grace period after which it would be taken over
# never begins. An absolute path, or one without a folder, has a link that leads to the file.
# Seen: "relative: held True, exists False, leads to runs/journal.log" and "absolute: held True, exists True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'optuna==5.0.0'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

Path("runs").mkdir()
seen = {}
for name, path in (("relative", "runs/journal.log"), ("absolute", os.path.abspath("runs/other.log"))):
    lock = JournalFileSymlinkLock(path)
    JournalFileBackend(path, lock)  # makes the file
    lock.acquire()
    seen[name] = os.path.lexists(f"{path}.lock"), os.path.exists(f"{path}.lock")
    print(f"{name}: held {seen[name][0]}, exists {seen[name][1]}, leads to {os.readlink(f'{path}.lock')}")
    lock.release()
assert seen == {"relative": (True, False), "absolute": (True, True)}, seen
PYTHON

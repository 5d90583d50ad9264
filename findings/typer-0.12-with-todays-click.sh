#!/usr/bin/env bash
# typer 0.12.5 allows any click from 8.0.0 on, so pip puts it beside click 8.5.1 today, and then no application with a
# boolean option (--loud / --no-loud) can be called: "Secondary flag is not valid for non-boolean flag." typer 0.13.1,
# beside the same click, runs it. A lower bound of typer that was true when it was written is not true now.
# Seen: "0.12.5: exit code 1, Secondary flag is not valid for non-boolean flag." and "0.13.1: exit code 0".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/hello.py" <<'PYTHON'
import typer


def main(loud: bool = False) -> None:
    print("HELLO" if loud else "hello")


typer.run(main)
PYTHON
for version in 0.12.5 0.13.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "typer==$version" 'click==8.5.1'
    code=0
    "$folder/$version/bin/python" "$folder/hello.py" --loud > "$folder/$version.out" 2>&1 || code=$?
    echo "$version: exit code $code, $(tail -n 1 "$folder/$version.out")"
    echo "$code" > "$folder/$version.code"
done
grep -q 'Secondary flag is not valid for non-boolean flag' "$folder/0.12.5.out"
test "$(cat "$folder/0.12.5.code")" = 1
test "$(cat "$folder/0.13.1.out")" = HELLO

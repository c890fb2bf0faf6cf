"""Print a constraints file that pins every base dependency of pyproject.toml to its lowest supported version."""

from __future__ import annotations

import re
from pathlib import Path

text = Path(__file__).resolve().parent.parent.joinpath("pyproject.toml").read_text(encoding="utf-8")
base = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
assert base is not None, "pyproject.toml has no dependencies"
for name, version in re.findall(r'"([\w-]+)>=([\d.]+)"', base.group(1)):
    print(f"{name}=={version}")  # "2.14" is 2.14.0 exactly: the lowest version that may be installed

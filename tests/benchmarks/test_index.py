"""The benchmark of the index runs; its figures are nobody's test."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_process_opens_all_images(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/index.py", "--count", "1500", "--processes", "1", "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    processes = json.loads(output.read_text())["processes"]
    assert list(processes) == ["first, scans all headers", "second", "together, 1"]
    assert {one["images"] for one in processes.values()} == {1500}
    assert "1500 images" in done.stdout

"""Stands in for a trial's worker: ends as the model's name says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

task = json.loads(sys.argv[-1])
name = task["trial"]["build"]["name"]
bundle = Path(task["bundle"])
if task["phase"] == "prepare":
    if name == "unbuildable":
        sys.stderr.write("edgeir: the engine build for rtx failed: no such layer.\n")
        sys.exit(4)
    bundle.mkdir()
    print(json.dumps({"bundle": bundle.name}))
    sys.exit(0)
assert bundle.is_dir()
if name == "abort":
    sys.stderr.write("free(): invalid pointer\n")
    sys.stderr.flush()
    os.abort()
if name == "hang":
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], check=False)
if name == "eat":
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1)) * (16 << 20))
        time.sleep(0.01)
if name == "mute":
    sys.exit(0)
if name == "untold":
    raise ValueError("seven")
began = time.monotonic()
time.sleep(float(sys.argv[1]) if len(sys.argv) > 2 else 0)
size = task["trial"]["height"]
trial = task["trial"]
print("something else")
print(
    json.dumps(
        {
            "p50_ms": float(sum(map(ord, name + trial["build"]["precision"])) % 97 + size),
            "mean_drift_db": (sum(map(ord, trial["build"]["precision"])) % 13) / 100,
            "place": str(bundle.parent.parent),
            "began": began,
            "ended": time.monotonic(),
        }
    )
)

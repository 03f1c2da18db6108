import sys
from pathlib import Path

# frames.py, which knows nothing of fastws, makes what the benchmarks parse.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "core"))

"""Execute the notebooks from a clean kernel, in place: `python notebooks/run.py [--check]`.

With --check nothing is written; a cell that fails ends the run with its error either way.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main() -> None:
    """Run every notebook of this folder."""
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        started = time.perf_counter()
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
        sys.stdout.write(f"{path.name}: {time.perf_counter() - started:.0f} s\n")
        if "--check" not in sys.argv:
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)  # times of one run, noise in a diff
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()

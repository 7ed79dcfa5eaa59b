"""Execute the notebooks from a clean kernel, in place: `python notebooks/run.py [--check] [NAME ...]`.

With --check nothing is written; a cell that fails, or warns, ends the run with its error either way.
"""

import resource
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main() -> None:
    """Run every notebook of this folder, or those whose names begin as given."""
    wanted = tuple(word for word in sys.argv[1:] if word != "--check") or ("",)
    for path in sorted(HERE.glob("*.ipynb")):
        if not path.name.startswith(wanted):
            continue
        notebook = nbformat.read(path, as_version=4)
        started, before = time.perf_counter(), spent()
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
        sys.stdout.write(f"{path.name}: {time.perf_counter() - started:.0f} s, {spent() - before:.0f} s of processor\n")
        if said := [output.text for cell in notebook.cells for output in cell.get("outputs", []) if errs(output)]:
            sys.exit(f"{path.name} warns: {said[0]}")
        if "--check" not in sys.argv:
            notebook.metadata.pop("widgets", None)
            notebook.metadata["language_info"] = {"name": "python"}  # the version is this machine's own
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)  # times of one run, noise in a diff
            nbformat.write(notebook, path)


def spent() -> float:
    """Seconds of processor time that finished kernels took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def errs(output: nbformat.NotebookNode) -> bool:
    """Is it something written to standard error?"""
    return output.output_type == "stream" and output.name == "stderr"


if __name__ == "__main__":
    main()

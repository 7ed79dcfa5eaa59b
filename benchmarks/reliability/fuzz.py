"""Inputs on which the tests' properties fail, searched for by atheris: it follows which lines an input reaches.

    make fuzz

What hypothesis draws at random in the tests (tokens, chunks and their offsets, citations, calculations, replies of
models, prompts, settings, traces, files of the index) is drawn here to reach what no input has reached before. Each
property has a process of its own, for `--seconds`. One JSON line: inputs tried and survived, and by property how many;
an input that is lost is printed with its error. Linux and macOS, Python 3.11 to 3.13.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

TESTS = Path(__file__).parents[2] / "tests"
PROPERTIES = {
    "test_fuzz": (
        "test_tokens_are_never_empty_and_the_same_again",
        "test_data_closes_no_delimiter_and_is_the_same_twice",
        "test_what_models_say_is_read_or_refused",
        "test_a_resume_is_understood_or_refused_in_words",
        "test_settings_are_taken_or_refused_by_name",
        "test_a_prompt_file_loads_or_is_refused",
        "test_a_trace_of_any_lines_is_shown",
        "test_a_manifest_of_any_bytes_is_refused_by_name",
        "test_changed_arrays_are_refused_or_harmless",
        "test_a_changed_bm25_file_answers_or_is_refused",
    ),
    "test_core": (
        "test_calculator_never_fails_otherwise",
        "test_citing_never_fails_and_is_stable",
    ),
    "test_index": ("test_offsets_always_rebuild_the_text",),
    "test_index_input": ("test_chunks_stand_where_they_say_and_cover_every_character",),
    "test_retrieval_metrics": ("test_measures_are_bounded_monotone_and_in_order",),
    "test_signals": ("test_signals_are_finite_and_always_the_same_names",),
    "test_step_graph": ("test_drawing_never_raises_and_gives_a_graph",),
    "test_working": ("test_reading_never_raises_and_gives_finite_values",),
}
TRIED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)


def search(module: str, name: str, seconds: int, kept: str) -> None:
    """Fuzz one property in this process; it ends the process."""
    import atheris

    sys.path.insert(0, str(TESTS))
    with atheris.instrument_imports(include=["artrag"]):
        test = getattr(importlib.import_module(module), name)
    words = (f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={kept}/", "-verbosity=0")
    atheris.Setup([sys.argv[0], *words], test.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main() -> None:
    """Search all, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="for each property")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--kept", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        search(*given.only, given.seconds, given.kept)
        return
    tried: dict[str, int] = {}
    lost: list[str] = []
    with TemporaryDirectory() as kept:
        for module, name in ((module, name) for module, names in PROPERTIES.items() for name in names):
            words = [sys.executable, __file__, "--only", module, name, "--seconds", str(given.seconds), "--kept", kept]
            ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
            found = TRIED.search(ended.stderr)
            tried[name] = int(found[1]) if found else 0
            if ended.returncode or not found:
                lost.append(name)
                print(ended.stdout[-3000:], ended.stderr[-1000:], file=sys.stderr, flush=True)
    total = sum(tried.values())
    line = {"suite": "fuzz", "tried": total, "survived": total - len(lost), "lost": lost, "inputs": tried}
    print(json.dumps(line))
    raise SystemExit(1 if lost else 0)


if __name__ == "__main__":
    main()

"""conclude: ship the answerer or not, and write the report."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable

from artrag.evaluation.rows import read_rows
from artrag.nodes.node import Run, node
from artrag.state import SimragState
from artrag.steps import Call, Steps
from artrag.training.loop import LOSSES
from artrag.training.rounds import KEPT, PART, REJECTED, ROUND, SCORES, round_folder, seconds_of, write_json

SHIPPED = "answerer"


def conclude() -> Runnable[Any, Any]:
    """A node that copies an answerer that is better to `<run>/answerer`, and writes `report.html` and `report.json`.

    Reads `run`, `round`, `kept`, `decision`, `scores`, `usage`; writes `outcome`: `decision`, `why`, `answerer` (its
    folder, or empty) and `report`.
    """

    def body(state: SimragState, run: Run) -> Steps[dict[str, Any]]:
        outcome = yield Call(_conclude, None, (state,))
        run.tell(outcome["why"])
        return {"outcome": outcome, "decision": outcome["decision"]}

    return node("conclude", body)


def _conclude(state: SimragState) -> dict[str, Any]:
    from artrag.evaluation.simrag_page import write_simrag_report

    folder = Path(state["run"])
    outcome: dict[str, Any] = {"decision": "reject", "answerer": ""}
    scores = state.get("scores") or {}
    if not scores:
        outcome["why"] = f"none of {state['proposed']} proposed pairs was kept, so there was nothing to learn from"
    else:
        gain, better = scores["gain"], state["decision"] == "ship"
        told = f"{100 * gain['value']:+.1f} points [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
        few = " over too few questions to tell" if gain["low"] > 0 and not better else ""
        outcome["why"] = f"the gain on held-out questions is {told}{few}"
        if better:
            outcome |= {"decision": "ship", "answerer": str(_ship(folder, state["round"]))}
        elif not few:
            outcome["why"] += ", which is not surely above zero"
    if not outcome["answerer"]:
        shutil.rmtree(folder / SHIPPED, ignore_errors=True)  # of an earlier run with other arguments
    rounds = [_round(state["run"], number) for number in range(1, state["round"] + 1)]
    last = round_folder(state["run"], state["round"])
    outcome["report"] = str(
        write_simrag_report(
            folder / "report.html",
            outcome,
            rounds,
            _rows(last / PART / LOSSES),
            _rows(last / KEPT),
            _rows(last / REJECTED),
        )
    )
    write_json(folder / "report.json", outcome | {"rounds": rounds, "usage": state["usage"]})
    return outcome


def _ship(folder: Path, number: int) -> Path:
    """Copy the round's answerer; a kill leaves none, or a whole one."""
    beside, place = folder / f".{SHIPPED}.new", folder / SHIPPED
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(round_folder(str(folder), number) / PART, beside)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(beside, place)
    return place


def _round(run: str, number: int) -> dict[str, Any]:
    folder = round_folder(run, number)
    told: dict[str, Any] = json.loads((folder / ROUND).read_text("utf-8"))
    if (folder / SCORES).exists():
        told["scores"] = json.loads((folder / SCORES).read_text("utf-8"))
    return told | {"seconds": seconds_of(run, number)}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)] if path.exists() and path.stat().st_size else []

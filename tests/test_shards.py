"""Training on two processes: the same weights as on one, written once."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_causal import make_base

from artrag.errors import TrainingDataError
from artrag.training import loop
from artrag.training.loop import CHECKPOINT, LOSSES, Plan, Run
from artrag.training.shards import Shards

PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from artrag.training import answerer, lora_batches
answerer.place = lora_batches.place = lambda: ("cpu", torch.float32)
from artrag.training.answerer_data import Example
plan = replace(answerer.HOW, epochs=2, rate=1e-2, rank=4, batch=4, window=400, evaluations=2)
def rows(word, n):
    return [Example("instruct", f"{word} {i}", ("yes" if i % 2 else "no",)) for i in range(n)]
found = answerer.train_answerer(rows("say", 13), rows("tell", 5), Path(sys.argv[2]), base=sys.argv[1], plan=plan)
print(json.dumps(found))
"""


def launched(world: int, base: Path, out: Path) -> list[str]:
    """What each of so many processes prints, started as `accelerate launch` and `torchrun` start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(base), str(out)],
            env=os.environ | about | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    told = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * world
    return told


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from torch.testing import assert_close

    base = make_base(tmp_path / "base", 0)
    (alone,) = launched(1, base, tmp_path / "one")
    first, second = launched(2, base, tmp_path / "two")
    one, two = json.loads(alone), json.loads(first)
    assert second == "" and two["losses"] == pytest.approx(one["losses"], rel=1e-3)
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two")]
    assert_close(weights[1], weights[0], rtol=0.05, atol=2e-3)
    lines = [(tmp_path / name / LOSSES).read_text("utf-8").count("\n") for name in ("one", "two")]
    assert lines[0] == lines[1] > 4


def test_alone_everything_is_mine() -> None:
    alone = Shards.of_launch("cpu")
    assert alone == Shards(0, 1) and alone.first and alone.mine([1, 2, 3]) == [1, 2, 3] and alone.of_first("x") == "x"
    alone.add_up([])
    alone.end_others()
    assert Shards(1, 2).mine([1, 2, 3]) == [2] and not Shards(1, 2).first


def test_a_full_memory_says_what_to_lower(tmp_path: Path) -> None:
    import torch

    def going(error: Exception) -> None:
        def full(*_: object) -> None:
            raise error

        run = Run(torch.nn.Linear(1, 1), full, Plan(window=512), tmp_path, "cpu")
        run.go([((1,), (2,))], [((1,), (2,))], {}, "m", lambda what, share: None, "x")

    with pytest.raises(TrainingDataError, match=r"tried to allocate 9 GiB\): lower the plan's window \(512 here\)"):
        going(torch.OutOfMemoryError("tried to allocate 9 GiB\nmore"))
    with pytest.raises(TrainingDataError, match=r"can't allocate memory.*\): lower the plan's window"):
        going(_not_allocated())
    with pytest.raises(RuntimeError, match="^shapes$"):
        going(RuntimeError("shapes"))


def _not_allocated() -> Exception:
    """What torch itself says on a CPU."""
    import torch

    try:
        torch.empty(2**62, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("that is a lot of memory")


def test_gradients_that_are_no_numbers_stop_before_the_weights(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)

    def loss(model: torch.nn.Module, rows: object) -> torch.Tensor:
        return model.weight.sum().abs().sqrt()  # type: ignore[union-attr,operator]  # 0, with an infinite slope

    run = Run(model, loss, Plan(batch=1), tmp_path, "cpu")
    with pytest.raises(TrainingDataError, match=r"the loss became 0.0 with gradients of (nan|inf).*another folder"):
        run.go([((1,), (1,))], [((1,), (1,))], {}, "m", lambda what, share: None, "x")
    assert model.weight.item() == 0.0


def test_a_loss_that_is_no_number_stops_and_keeps_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    model, calls = torch.nn.Linear(1, 1), []

    def loss(model: torch.nn.Module, rows: object) -> torch.Tensor:
        calls.append(1)
        return (model.weight * (float("nan") if len(calls) == 3 else 1.0)).sum()  # type: ignore[union-attr,return-value]

    rows = [((n,), (n,)) for n in range(8)]
    run = Run(model, loss, Plan(batch=1, epochs=1, evaluations=1), tmp_path, "cpu")
    with pytest.raises(TrainingDataError, match="the loss became nan"):
        run.go(rows, rows[:1], {}, "m", lambda what, share: None, "x")
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert kept["state"]["step"] == 2 and torch.isfinite(kept["weights"]["weight"]).all()
    assert torch.isfinite(model.weight).all()

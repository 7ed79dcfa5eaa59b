"""`artrag train`: recorded predictions in, trained parts out."""

import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from artrag.errors import UsageError
from artrag.settings import EMBEDDED_BASE, EMBEDDED_CHAT, EMBEDDED_ENCODER

if TYPE_CHECKING:
    from artrag.evaluation.predictions import Prediction
    from artrag.models.parts import Kind
    from artrag.training.retriever import Couple

FEW = 30
"""Questions of dev below which the command says that figures and thresholds are little more than a guess."""
HELD_OUT = 7
"""Without a dev file every seventh question is held out."""

train = typer.Typer(
    help="Train an Asker, a Truster or both from recorded answers; retriever and reranker from couples; an answerer.",
    no_args_is_help=True,
)

Variant = Literal["signals", "encoder", "causal"]
Predictions = Annotated[
    list[Path], typer.Option("--predictions", help="Recorded answers with labels, .jsonl or .jsonl.gz.")
]
More = Annotated[list[Path] | None, typer.Argument(help="Further files of recorded answers.")]
Dev = Annotated[
    Path | None, typer.Option("--dev", help="Recorded answers to other questions; none: every seventh is held out.")
]
Out = Annotated[Path, typer.Option("--out", file_okay=False, help="Folder of the trained part.")]
VariantOption = Annotated[
    Variant,
    typer.Option(help="signals: a small network over checks, minutes; encoder: 22M, LoRA; causal: a language model."),
]
Base = Annotated[str, typer.Option(help="Base model of the causal variant.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes of encoder and causal variants.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many rows for encoder and causal variants.")]
Seed = Annotated[int, typer.Option(help="Of weights and draws.")]
Budget = Annotated[
    float | None, typer.Option("--refine-budget", min=0, max=1, help="The most that may be refined, as a share.")
]
AnsweredRight = Annotated[
    float, typer.Option(min=0, max=1, help="Accuracy wanted of the answers that are not abstained from.")
]
ReaderOption = Annotated[
    str,
    typer.Option("--reader", help="Step reader beside the signals: 'trained' for the shipped one, 'none', a folder."),
]
Couples = Annotated[
    list[Path] | None, typer.Argument(help="Questions with their passage: {question, passage, group, source}, .jsonl.")
]
Code = Annotated[
    list[Path] | None,
    typer.Option("--code", file_okay=False, exists=True, help="Source code with comments, a folder a package."),
]
DevCouples = Annotated[Path | None, typer.Option("--dev", help="As COUPLES; none: every eighth group is held out.")]
Encoder = Annotated[str, typer.Option("--base", help="The encoder that learns.")]
CouplePasses = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the couples.")]
MostCouples = Annotated[int | None, typer.Option("--limit", min=32, help="At most so many couples.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@train.command()
def asker(
    predictions: Predictions,
    out: Out,
    more: More = None,
    dev: Dev = None,
    variant: VariantOption = "signals",
    base: Base = EMBEDDED_BASE,
    epochs: Epochs = 1,
    limit: Limit = None,
    reader: ReaderOption = "trained",
    seed: Seed = 0,
    refine_budget: Budget = None,
    as_json: JsonOption = False,
) -> None:
    """Train an Asker: is a draft wrong, and what does it leave open?"""
    options = {"base": base, "epochs": epochs, "limit": limit, "seed": seed, "reader": reader}
    _train(["asker"], variant, [*predictions, *(more or [])], dev, out, options, refine_budget, 0.66, as_json)


@train.command()
def truster(
    predictions: Predictions,
    out: Out,
    more: More = None,
    dev: Dev = None,
    variant: VariantOption = "signals",
    base: Base = EMBEDDED_BASE,
    epochs: Epochs = 1,
    limit: Limit = None,
    reader: ReaderOption = "trained",
    seed: Seed = 0,
    answered_right: AnsweredRight = 0.66,
    as_json: JsonOption = False,
) -> None:
    """Train a Truster: which of several answers to a question is right, and how sure is that?"""
    options = {"base": base, "epochs": epochs, "limit": limit, "seed": seed, "reader": reader}
    _train(["truster"], variant, [*predictions, *(more or [])], dev, out, options, None, answered_right, as_json)


@train.command()
def reader(
    solutions: Annotated[
        list[Path], typer.Option("--solutions", help="Problems with marked calculations (as GSM8K's), .jsonl.")
    ],
    predictions: Predictions,
    out: Out,
    more: More = None,
    dev: Dev = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the solutions.")] = 4,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a step reader: do the steps of an answer do what the question tells? About an hour on a CPU's one core."""
    from artrag.training.step_reader import ON_ANSWERS, ON_SOLUTIONS, train_reader

    learn, check = _rows([*predictions, *(more or [])], dev)
    on_solutions, on_answers = replace(ON_SOLUTIONS, epochs=epochs, seed=seed), replace(ON_ANSWERS, seed=seed)
    with _telling() as tell:
        found = train_reader(
            solutions, learn, check, out, on_solutions=on_solutions, on_answers=on_answers, progress=tell
        )
    _show(found | {"variant": "encoder", "out": str(out)}, as_json)


@train.command()
def retriever(
    out: Out,
    couples: Couples = None,
    code: Code = None,
    dev: DevCouples = None,
    base: Encoder = EMBEDDED_ENCODER,
    epochs: CouplePasses = 1,
    limit: MostCouples = None,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach the embedder which passage answers a question. 20,000 couples: about 50 minutes on one core."""
    from artrag.training.retriever import HOW, train_retriever

    with _telling() as tell:
        learn, check = _couples(couples, code, dev, tell)
        plan = replace(HOW, epochs=epochs, seed=seed)
        found = train_retriever(learn, check, out, base=base, plan=plan, limit=limit, progress=tell)
    _show(found | {"variant": "encoder", "out": str(out)}, as_json)


@train.command()
def reranker(
    out: Out,
    couples: Couples = None,
    code: Code = None,
    dev: DevCouples = None,
    base: Encoder = EMBEDDED_ENCODER,
    epochs: CouplePasses = 1,
    limit: MostCouples = None,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach an encoder to reorder passages, reading each together with the question. A second a couple on one core."""
    from artrag.training.reranker import HOW, train_reranker

    with _telling() as tell:
        learn, check = _couples(couples, code, dev, tell)
        plan = replace(HOW, epochs=epochs, seed=seed)
        found = train_reranker(learn, check, out, base=base, plan=plan, limit=limit, progress=tell)
    _show(found | {"variant": "encoder", "out": str(out)}, as_json)


@train.command()
def answerer(
    out: Out,
    examples: Annotated[
        list[Path] | None,
        typer.Argument(help="Tasks answer, instruct, extract, ask, or public sets (docs/training.md)."),
    ] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", help="The same, as an option.")] = None,
    dev: Annotated[Path | None, typer.Option("--dev", help="As EXAMPLES; none: every seventh is held out.")] = None,
    distractors: Annotated[
        int, typer.Option(min=0, max=9, help="Other passages beside a question's only one, at most.")
    ] = 3,
    base: Annotated[
        str, typer.Option(help="The chat model that learns; a trained answerer goes on learning.")
    ] = EMBEDDED_BASE,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples.")] = 1,
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="The highest learning rate; none: 5e-4. Less to go on learning.")
    ] = None,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach a chat model to answer from passages, find candidate answers, and ask. 10,000 examples: about an hour."""
    from artrag.training.answerer import HOW, hold_out, train_answerer
    from artrag.training.answerer_sets import load_examples, with_distractors

    paths = [*(data or []), *(examples or [])]
    if not paths:
        raise UsageError("no examples: name a file of them (docs/training.md)")
    rows, layouts = load_examples(*paths)
    learn, check = (rows, load_examples(dev)[0]) if dev else hold_out(rows)
    learn, check = (with_distractors(side, distractors, seed=seed) for side in (learn, check))
    plan = replace(HOW, epochs=epochs, rate=rate or HOW.rate, seed=seed)
    with _telling() as tell:
        found = train_answerer(learn, check, out, base=base, plan=plan, progress=tell)
    found["layouts"] = dict(layouts)
    _show(found | {"variant": "causal", "out": str(out)}, as_json)


@train.command()
def verifier(
    out: Out,
    examples: Annotated[
        list[Path], typer.Argument(help="Questions about passages, as for an answerer; an empty answer: it has none.")
    ],
    dev: Annotated[Path | None, typer.Option("--dev", help="As EXAMPLES; none: every seventh is held out.")] = None,
    base: Annotated[str, typer.Option(help="The chat model that learns.")] = EMBEDDED_CHAT,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples.")] = 2,
    rate: Annotated[float, typer.Option(min=1e-9, help="The highest learning rate.")] = 4e-4,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach a chat model whether a passage answers a question. 12,600 questions about 1,500 passages: 90 minutes."""
    from artrag.training.answerer import HOW, hold_out, train_answerer
    from artrag.training.answerer_sets import load_examples
    from artrag.training.verifier import check_sorts, verdicts

    rows = load_examples(*examples)[0]
    check_sorts(rows)
    learn, check = (rows, load_examples(dev)[0]) if dev else hold_out(rows)
    learn, check = verdicts(learn, seed), verdicts(check, seed)
    plan = replace(HOW, epochs=epochs, rate=rate, seed=seed)
    with _telling() as tell:
        found = train_answerer(learn, check, out, base=base, kind="verifier", plan=plan, progress=tell)
    _show(found | {"variant": "causal", "out": str(out)}, as_json)


def _couples(
    paths: list[Path] | None, code: list[Path] | None, dev: Path | None, tell: "Callable[[str, float], None]"
) -> "tuple[list[Couple], list[Couple]]":
    from artrag.training.code_questions import code_pairs, source_files
    from artrag.training.retriever import Couple, hold_out, read_couples

    if not paths and not code:
        raise UsageError("nothing to learn from: give a file of couples, or --code with a folder of source code")
    rows = read_couples(*(paths or []))
    tell("asking questions about the code", 0.0)
    rows += [Couple(**row) for folder in code or [] for row in code_pairs(source_files(folder))]
    return (rows, read_couples(dev)) if dev else hold_out(rows)


@train.command()
def art(
    predictions: Predictions,
    out: Out,
    more: More = None,
    dev: Dev = None,
    reader: ReaderOption = "trained",
    seed: Seed = 0,
    refine_budget: Budget = None,
    answered_right: AnsweredRight = 0.66,
    as_json: JsonOption = False,
) -> None:
    """Train Asker and Truster, calibrate them, choose the thresholds and write a report, in one go."""
    paths = [*predictions, *(more or [])]
    _train(
        ["asker", "truster"],
        "signals",
        paths,
        dev,
        out,
        {"seed": seed, "reader": reader},
        refine_budget,
        answered_right,
        as_json,
    )


def _train(
    kinds: "Sequence[Kind]",
    variant: Variant,
    paths: Sequence[Path],
    dev: Path | None,
    out: Path,
    options: dict[str, Any],
    refine_budget: float | None,
    answered_right: float,
    as_json: bool,
) -> None:
    learn, check = _rows(paths, dev)
    asked = len({row.question for row in check})
    if asked < FEW:
        said = f"only {asked} questions to choose thresholds on: figures will be rough; record more"
        Console(stderr=True).print(said, style="yellow")
    with _telling() as tell:
        if variant == "signals":
            from artrag.training.worked import Plan, train_art

            plan = Plan(seed=options["seed"], refine_budget=refine_budget, answered_right=answered_right)
            reader = None if options["reader"] == "none" else options["reader"]
            found = train_art(learn, check, out, kinds=kinds, plan=plan, reader=reader, tell=tell)
        else:
            from artrag.training.choosing import Choosing

            choosing = Choosing(refine_budget=refine_budget, answered_right=answered_right)
            trainer = _trainer(kinds[0], variant)
            found = trainer(learn, check, out, **_options(variant, options), choosing=choosing, progress=tell)
    _show(found | {"variant": variant, "out": str(out)}, as_json)


@contextmanager
def _telling() -> "Iterator[Callable[[str, float], None]]":
    """A progress bar on standard error, as a function of (what, share done)."""
    from artrag.interfaces.show import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("training", total=100)
        yield lambda what, share: bar.update(task, description=what, completed=int(100 * share))


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        Console().print(_table(found))


def _rows(paths: Sequence[Path], dev: Path | None) -> "tuple[list[Prediction], list[Prediction]]":
    from artrag.evaluation.predictions import normal_question, read_predictions

    rows = read_predictions(*paths)
    if dev is not None:
        return rows, read_predictions(dev)
    words = [normal_question(row.question).encode("utf-8", "replace") for row in rows]
    out = [zlib.crc32(question) % HELD_OUT == 0 for question in words]
    learn = [row for row, held in zip(rows, out, strict=True) if not held]
    check = [row for row, held in zip(rows, out, strict=True) if held]
    if not learn or not check:
        raise UsageError(
            f"{len(rows)} rows are too few to hold questions out of: give --dev FILE with other questions, or more rows"
        )
    return learn, check


def _trainer(kind: "Kind", variant: Variant) -> Any:
    if variant == "causal":
        from artrag.training.causal import train_causal_asker, train_causal_truster

        return train_causal_asker if kind == "asker" else train_causal_truster
    from artrag.training.encoder import train_encoder_asker, train_encoder_truster

    return train_encoder_asker if kind == "asker" else train_encoder_truster


def _options(variant: Variant, options: dict[str, Any]) -> dict[str, Any]:
    wanted = ("base", "epochs", "limit", "seed") if variant == "causal" else ("epochs", "limit", "seed")
    return {name: options[name] for name in wanted}


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"trained: {found['out']}", title_justify="left")
    for name in ("figure on dev", "value", "95%"):
        table.add_column(name, justify="left" if name == "figure on dev" else "right")
    for name, value in found.items():
        if isinstance(value, dict) and set(value) == {"value", "low", "high"} and value["value"] is not None:
            table.add_row(name, f"{value['value']:.3f}", f"{value['low']:.3f} to {value['high']:.3f}")
    for name, limit in (found.get("thresholds") or {}).items():
        table.add_row(name, f"{limit:.3f}", "chosen")
    for name, values in found.items():
        if name in ("losses", "rows") and isinstance(values, dict):
            for what, value in values.items():
                shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
                table.add_row(f"{name}, {what}", shown, "")
    return table

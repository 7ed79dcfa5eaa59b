"""Draw docs/trace.png, the page of a trace: `python docs/trace_picture.py`.

Index, Asker and Truster are the shipped ones; the chat model is scripted, so that there is something to refine.
It needs Chromium.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from langchain_core.language_models import FakeListChatModel
from PIL import Image

from artrag import Settings, build_art, build_ingest
from artrag.index import Index, IndexRetriever
from artrag.models import load_asker, load_embedder, load_truster
from artrag.tracing import LocalTracer, as_html

HERE = Path(__file__).parent
QUESTION = "By how many points did Lumoretin beat placebo on the primary endpoint in the 2019 phase 2 trial?"
SAID = [
    "Lumoretin beat placebo by 3.1 points on the primary endpoint in 2022.",
    "The difference from placebo on the primary endpoint was 4.2 points, 95% CI 2.6 to 5.8 [1].",
]
WIDTH, HEIGHT = 1000, 1180


def main() -> None:
    """Index the example corpus, run `art` once, and picture the page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        raise SystemExit("no Chromium is here: install the package 'chromium'")
    embedder, tracer = load_embedder(), LocalTracer()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inputs: Any = {"paths": [str(HERE.parent / "examples" / "corpus")], "index": str(place / "index")}
        build_ingest(embedder=embedder).compile().invoke(inputs)
        index = Index.open(place / "index", embedder=embedder)
        parts = {"asker": load_asker(), "truster": load_truster(), "retriever": IndexRetriever(index=index)}
        art = build_art(chat=FakeListChatModel(responses=SAID), **parts).compile(name="art")
        art.invoke({"question": QUESTION}, {"callbacks": [tracer]}, context=Settings(k=4))
        index.close()
        (place / "trace.html").write_text(as_html(tracer.spans), "utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={place / 'own'}"]
        shot = [f"--screenshot={place / 'trace.png'}", f"--window-size={WIDTH},{HEIGHT}"]
        subprocess.run([browser, *flags, *shot, (place / "trace.html").as_uri()], check=True, capture_output=True)
        Image.open(place / "trace.png").convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
            HERE / "trace.png", optimize=True
        )


if __name__ == "__main__":
    main()

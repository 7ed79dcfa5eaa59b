"""Model references, the embedded models, and the prompted and evidence-based Asker and Truster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artrag.models.askers import EvidenceAsker, PromptedAsker, load_asker
    from artrag.models.judges import ExpectedGradeTruster, LikelihoodAsker
    from artrag.models.local_chat import LocalChat
    from artrag.models.local_embeddings import LocalEmbeddings
    from artrag.models.references import ModelReference, load_chat, load_embedder, load_reranker
    from artrag.models.trusters import EvidenceTruster, PromptedTruster, load_truster

# Loaded on first use: only the local models need torch and transformers.
_HOME = {
    "EvidenceAsker": "artrag.models.askers",
    "EvidenceTruster": "artrag.models.trusters",
    "ExpectedGradeTruster": "artrag.models.judges",
    "LikelihoodAsker": "artrag.models.judges",
    "LocalChat": "artrag.models.local_chat",
    "LocalEmbeddings": "artrag.models.local_embeddings",
    "ModelReference": "artrag.models.references",
    "PromptedAsker": "artrag.models.askers",
    "PromptedTruster": "artrag.models.trusters",
    "load_asker": "artrag.models.askers",
    "load_chat": "artrag.models.references",
    "load_embedder": "artrag.models.references",
    "load_reranker": "artrag.models.references",
    "load_truster": "artrag.models.trusters",
}
__all__ = [
    "EvidenceAsker",
    "EvidenceTruster",
    "ExpectedGradeTruster",
    "LikelihoodAsker",
    "LocalChat",
    "LocalEmbeddings",
    "ModelReference",
    "PromptedAsker",
    "PromptedTruster",
    "load_asker",
    "load_chat",
    "load_embedder",
    "load_reranker",
    "load_truster",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'artrag.models' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

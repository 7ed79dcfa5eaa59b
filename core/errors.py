"""Every error artrag raises on purpose.

    ArtragError
    ├── UsageError               what was asked cannot be done as asked (exit code 2)
    │   ├── QuestionError          the question is blank or longer than the model's window
    │   ├── SettingsError          an unknown setting, or a value out of range
    │   ├── StateError             a graph's state lacks what a node reads
    │   ├── FormatError            a run's folder, a trace or a thread of another format version
    │   ├── UnknownModelError      a model reference that names nothing
    │   ├── RemoteRefusedError     a remote model or tracer under `local_only`
    │   ├── PromptError            a prompt file that is missing or malformed
    │   ├── PredictionsError       recorded predictions that cannot be read
    │   └── TrainingDataError      rows that nothing can be learned from, or that leak the test
    ├── ModelError               a model cannot be had or did not answer
    │   ├── MissingExtraError      an optional package is not installed
    │   ├── ModelUnavailableError  weights neither cached nor to be fetched
    │   ├── ChecksumError          fetched weights are not the pinned ones
    │   ├── PartError              a trained Asker or Truster that is missing, damaged or of another base model
    │   ├── PromptTooLongError     prompt and answer do not fit the model's window
    │   ├── ModelBusyError         too many callers wait for a local model
    │   └── ModelCallError         no usable reply, after retries
    ├── IndexStoreError          an index directory cannot be used
    │   ├── IndexNotFoundError     there is none
    │   ├── IndexVersionError      written in another format version
    │   ├── IndexDamagedError      a file is missing or altered
    │   ├── IndexLockedError       somebody else is writing
    │   ├── IndexServerError       the server that holds it does not answer, or refuses
    │   ├── EmbedderMismatchError  built with another embedder
    │   └── EmptyCorpusError       nothing to index
    ├── RetrievalError           the retriever failed, or gave what are no passages
    ├── DeadlineError            the time that a run may take is over, and there is no answer yet
    ├── RunLockedError           somebody else is running in this folder
    ├── DocumentError            one document cannot be read (ingest skips and reports it)
    └── CalculationError         an expression is not plain arithmetic, or too large

Every message names the offending value and the next thing to do.
"""


class ArtragError(RuntimeError):
    """Base of all errors artrag raises on purpose.

    A RuntimeError: LangGraph's server hides the messages of all but the classes it knows.
    """


class UsageError(ArtragError):
    """What was asked cannot be done as asked."""


class QuestionError(UsageError):
    """The question is blank or longer than the model's window."""


class SettingsError(UsageError):
    """An unknown setting, or a value out of range."""


class StateError(UsageError):
    """A graph's state lacks what a node reads."""


class FormatError(UsageError):
    """A run's folder, a trace or a thread has another format version than the one that is read."""


class UnknownModelError(UsageError):
    """A model reference that names nothing."""


class RemoteRefusedError(UsageError):
    """A remote model or tracer was asked for under `local_only`."""


class PromptError(UsageError):
    """A prompt file is missing or malformed."""


class PredictionsError(UsageError):
    """Recorded predictions cannot be read."""


class TrainingDataError(UsageError):
    """Nothing can be learned from the rows, or they leak the test."""


class ModelError(ArtragError):
    """A model cannot be had or did not answer."""


class MissingExtraError(ModelError):
    """An optional package is not installed."""


class ModelUnavailableError(ModelError):
    """Weights are neither cached nor to be fetched."""


class ChecksumError(ModelError):
    """Fetched weights are not the pinned ones."""


class PartError(ModelError):
    """A trained Asker or Truster is missing, damaged, or belongs to another base model."""


class PromptTooLongError(ModelError):
    """Prompt and answer do not fit the model's window."""


class ModelBusyError(ModelError):
    """Too many callers wait for a local model."""


class ModelCallError(ModelError):
    """No usable reply from a model, after retries."""


class IndexStoreError(ArtragError):
    """An index directory cannot be used."""


class IndexNotFoundError(IndexStoreError):
    """There is no index at this place."""


class IndexVersionError(IndexStoreError):
    """The index was written in another format version."""


class IndexDamagedError(IndexStoreError):
    """A file of the index is missing or altered."""


class IndexLockedError(IndexStoreError):
    """Somebody else is writing this index."""


class IndexServerError(IndexStoreError):
    """The server that holds the index does not answer, or refuses."""


class EmbedderMismatchError(IndexStoreError):
    """The index was built with another embedder."""


class EmptyCorpusError(IndexStoreError):
    """There is nothing to index."""


class RetrievalError(ArtragError):
    """The retriever failed, or gave what are no passages."""


class DeadlineError(ArtragError):
    """The time that a run may take is over."""


class RunLockedError(ArtragError):
    """Somebody else is running in this folder."""


class DocumentError(ArtragError):
    """One document cannot be read; ingest skips and reports it."""


class CalculationError(ArtragError):
    """An expression is not plain arithmetic, or its result is too large."""

"""Distil a language model into a ternary BitNet student: the core of bitnet-tui, and a library.

`import bitnet_core as bn` costs nothing: a name is imported when it is first used (PEP 562). docs/LIBRARY.md shows
how the names go together; `__init__.pyi` tells type checkers what they are.
"""

# No module is imported here: until `__main__` begins, Ctrl-C is a traceback of Python's own.

__version__ = "0.1.0"

_ROOM_OF = {
    "ChatRequest": "teachers.chat",
    "Experiment": "runs.experiment",
    "FlipOptions": "settings.flip",
    "LossWeights": "settings.values",
    "Reporter": "runs.reporter",
    "Sampling": "settings.values",
    "Student": "model.student",
    "TeacherOptions": "settings.values",
    "TrainOptions": "settings.values",
    "Trainer": "training.trainer",
    "distill_loss": "training.losses",
    "generate": "model.generation",
    "launch": "runs.launch",
    "load_tokenizer": "tokenizer.load",
    "load_traces": "traces.dataset",
    "open_teacher": "teachers.opening",
    "preset": "model.presets",
}
__all__ = sorted(_ROOM_OF)  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

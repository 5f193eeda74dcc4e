"""What is asked before a run is stopped or killed, as the texts of a question."""

from collections.abc import Sequence

from bitnet_core.runs.catalog import PIPELINE
from bitnet_tui.key_names import key
from bitnet_tui.labels import stage_title
from bitnet_tui.view.stage_rows import StageRow


def keeps(name: str, ending: Sequence[StageRow]) -> bool:
    """Whether stopping this loses nothing. Of a pipeline, its stage among the `ending` rows decides."""
    return all(row.keeps for row in ending if name in (PIPELINE.name, row.name))


def question(name: str, ending: Sequence[StageRow]) -> tuple[str, str, str]:
    """`ending` are the rows of what ends with this one, the pipeline among them if it waits for this one."""
    run, pipeline = key("experiment.run"), key("experiment.pipeline")
    saves, goes_on, also = "saves its work first", "continues from there", ""
    if not keeps(name, ending):
        saves, goes_on = "loses its work so far", "starts it from the beginning"
    elif not all(row.used for row in ending):
        goes_on = "starts it from the beginning, as settings or traces have changed since"
    if name == PIPELINE.name:
        why = f"The running stage {saves}; {pipeline} {goes_on}."
    elif any(row.name == PIPELINE.name for row in ending):
        why = f"It {saves}, and the pipeline that it belongs to ends with it; {pipeline} {goes_on}."
        also = " and the pipeline"
    else:
        why = f"It {saves}; {run} {goes_on}."
    return (
        f"Stop {stage_title(name)}{also}?",
        f"{why} Leaving the app ({key('app.quit')}) does not stop it.",
        "Stop it",
    )


def kill_question(name: str) -> tuple[str, str, str]:
    why = "It was asked to stop and is still running. If it is killed, only what it has already saved is kept."
    return f"Kill {stage_title(name)} now?", why, "Kill it"

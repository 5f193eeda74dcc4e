"""What is asked before a run is stopped or killed, as the texts of a question."""

from bitnet_core.runs.catalog import PIPELINE, stage
from bitnet_tui.key_names import key


def question(name: str, *, with_pipeline: bool) -> tuple[str, str, str, str]:
    """`with_pipeline`: whether the stage runs as a part of one, which ends with it."""
    run, pipeline = key("experiment.run"), key("experiment.pipeline")
    why = "It saves its work first" if stage(name).resumes else "It keeps nothing of its work"
    goes_on = "continues from there" if stage(name).resumes else "begins it anew"
    if name == PIPELINE.name:
        why = f"The running stage saves its work first; {pipeline} continues from there."
    elif with_pipeline:
        why = f"{why}, and the pipeline that it belongs to ends with it; {pipeline} {goes_on}."
        name += " and the pipeline"
    else:
        why = f"{why}; {run} {goes_on}."
    return f"Stop {name}?", f"{why} Leaving the app ({key('app.quit')}) does not stop it.", "Stop it", "Let it run"


def kill_question(name: str) -> tuple[str, str, str, str]:
    why = "It was asked to stop and is still running. If it is killed, only what it has already saved is kept."
    return f"Kill {name} now?", why, "Kill it", "Wait"

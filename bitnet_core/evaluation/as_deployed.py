"""Measure a student's GGUF in llama.cpp beside the embedded teacher; or say why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.answers import EvalPrompt
from bitnet_core.evaluation.deployment import TURN_TOKENS, Contestant, Measured, measure
from bitnet_core.evaluation.student_runtime import GGUF_TYPE, StudentFile
from bitnet_core.export import verify
from bitnet_core.export.verify import Answers, Verification
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.opening import Host, fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

_VERIFIED_PROMPTS = 2
_NOT_THE_STUDENT = "What llama.cpp answered and scored is not the student's; `bitnet export gguf` compares more."


@dataclass(frozen=True)
class AsDeployed:
    """What llama.cpp made of the student's GGUF.

    `why` says why the student was not run there (`measured` is None), or not compared (only `verified` is None).
    """

    measured: Measured | None
    verified: Verification | None
    why: str = ""
    gguf_type: str = GGUF_TYPE


def measure_as_deployed(
    packed: Student,
    tokenizer: StudentTokenizer,
    file: StudentFile,
    prompts: Sequence[EvalPrompt],
    new_tokens: int,
    answers: Callable[[], Answers],
    host: Host,
    *,
    embedded: bool,
) -> AsDeployed:
    """Measure a packed student's GGUF on this machine's processors, by turns with the teacher if it is `embedded`.

    It is compared along the student's own `answers`.
    """
    if file.path is None:
        return AsDeployed(None, None, file.why)
    room = packed.config.max_position_embeddings - TURN_TOKENS - 1
    asked = [prompt for prompt in prompts if len(prompt.ids) <= room]
    if not asked:
        return AsDeployed(None, None, f"no prompt leaves room for {TURN_TOKENS} tokens in the student's positions")
    try:
        student = Contestant("student", file.path, [prompt.ids for prompt in asked])
        teacher = _teacher(tokenizer, asked, host) if embedded else None
        measured = measure(student, teacher, new_tokens, host)
        try:
            own = answers()
        except Stopped:
            raise
        except BitnetError as error:  # what was measured does not depend on it
            return AsDeployed(measured, None, _clause(error), file.kind)
        host.progress(0, None, "steps", "comparing with llama.cpp")
        verified = verify.verify_gguf(file.path, packed, tokenizer, own, host.check_stop)
        for problem in verified.problems():
            host.alert("warning", "not_the_student", f"{problem.what}.", _NOT_THE_STUDENT)
        return AsDeployed(measured, verified, gguf_type=file.kind)
    except Stopped:
        raise
    except BitnetError as error:
        return AsDeployed(None, None, _clause(error))


def _clause(error: BitnetError) -> str:
    return str(error).rstrip(".")


def _teacher(tokenizer: StudentTokenizer, prompts: Sequence[EvalPrompt], host: Host) -> Contestant:
    """The embedded teacher, asked the same prompts in its own tokens."""
    files = ensure_files(fetch_progress(host))
    own = load_tokenizer(files.tokenizer_dir)
    ids = [
        prompt.ids
        if own.hash == tokenizer.hash
        else own.encode_prompt([{"role": "user", "content": prompt.text}]).ids
        for prompt in prompts
    ]
    return Contestant("teacher", files.gguf, ids)


def runtime_answers(packed: Student, tokenizer: StudentTokenizer, host: Host) -> Answers:
    """The student's greedy answers to packaged prompts, at the runtimes' bits, along which runtimes are compared."""
    host.progress(0, None, "steps", "answering for comparison")
    prompts = verify.choose_prompts(packed, tokenizer, verify.LONGER)[:_VERIFIED_PROMPTS]
    greedy = Sampling(max_tokens=verify.NEW_TOKENS)
    own = packed.layer_bits
    packed.activation_bits = verify.RUNTIME_BITS
    try:
        with packed.held_weights():
            answers = []
            for ids in prompts:
                host.check_stop()
                made = generate_ids(packed, ids, greedy, eos_id=tokenizer.eos_id)
                answers.append(made.ids)
    finally:
        packed.set_layer_bits(own)
    return Answers(prompts, answers)

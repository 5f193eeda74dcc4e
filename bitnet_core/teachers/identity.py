"""Which teacher the options name: provider, model and address, found without opening it."""

from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.embedded.files import GGUF_SHA256, MODEL_NAME
from bitnet_core.teachers.profiles import Provider, profile


@dataclass(frozen=True)
class Identity:
    """A model at a provider."""

    provider: Provider
    model: str
    base_url: str
    """Empty for a model on this machine: the embedded server gets another port each time."""
    own: bool = True
    """Whether it is the teacher of the options. The TEACHER_ settings don't count for any other provider."""

    @property
    def origin(self) -> str:
        """Distinguishes its answers from those of other teachers: the address, or a hash of the model's files."""
        if self.provider.wire == "transformers":
            from bitnet_core.teachers.hf.files import origin  # only here: it imports numpy and tokenizers

            return origin(self.model)
        return self.base_url or f"embedded:{GGUF_SHA256}"

    @property
    def key_settings(self) -> tuple[str, ...]:
        return self.provider.key_settings(own=self.own)


def identify(options: TeacherOptions) -> Identity:
    """The teacher of the options. BitnetError if its model or its address is not set."""
    return identify_as(options, options.chosen)


def identify_as(options: TeacherOptions, name: str, model: str = "", *, need_model: bool = True) -> Identity:
    """Like `identify`, for any provider and, if given, for another model than the one that is set."""
    provider = profile(name)
    if provider.name == "embedded":
        return Identity(provider, MODEL_NAME, "")
    own = name == options.chosen
    model = model or (options.model if own else "") or options.models.get(name, "")
    if not model and (need_model or provider.wire == "transformers"):
        fix = f"TEACHER_MODEL (or {provider.model_setting})" if own else provider.model_setting
        raise BitnetError(f"No model is set for {name}; set {fix}.")
    if provider.wire == "transformers":
        return Identity(provider, model, "", own)
    base_url = (options.base_url if own else "") or options.addresses.get(name, "") or provider.base_url
    if not base_url:
        raise BitnetError(f"No address is set for {name}; set {provider.base_url_setting} to its base URL.")
    return Identity(provider, model, base_url.rstrip("/"), own)

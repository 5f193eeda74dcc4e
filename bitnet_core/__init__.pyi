from bitnet_core.model.generation import generate as generate
from bitnet_core.model.presets import preset as preset
from bitnet_core.model.student import Student as Student
from bitnet_core.runs.experiment import Experiment as Experiment
from bitnet_core.runs.launch import launch as launch
from bitnet_core.runs.reporter import Reporter as Reporter
from bitnet_core.settings.flip import FlipOptions as FlipOptions
from bitnet_core.settings.values import LossWeights as LossWeights
from bitnet_core.settings.values import Sampling as Sampling
from bitnet_core.settings.values import TeacherOptions as TeacherOptions
from bitnet_core.settings.values import TrainOptions as TrainOptions
from bitnet_core.teachers.chat import ChatRequest as ChatRequest
from bitnet_core.teachers.opening import open_teacher as open_teacher
from bitnet_core.tokenizer.load import load_tokenizer as load_tokenizer
from bitnet_core.traces.dataset import load_traces as load_traces
from bitnet_core.training.losses import distill_loss as distill_loss
from bitnet_core.training.trainer import Trainer as Trainer

__version__: str

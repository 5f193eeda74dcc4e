"""The device for a model in this process, chosen when there is one: only that needs torch.

Importing torch takes two seconds and as much memory as all else that asks a teacher.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions

if TYPE_CHECKING:
    import torch


def device_of(settings: Settings) -> "Callable[[], torch.device]":
    def choose() -> "torch.device":
        from bitnet_core.model.precision import pick_device

        return pick_device(DeviceOptions.of(settings))

    return choose

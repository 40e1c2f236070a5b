"""Tensors of a transformers model under the names its released files use.

transformers 5 renames layers while loading. Files keep the old names, and so does everything here that reads a state dict: accounts,
layouts and digests speak of what is in the file. The library's own table of renamed layers is used, read backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def use_released_names(network: PreTrainedModel) -> None:
    """From now on the network's state dict carries released names, and loading one takes them. A model without renamed layers stays."""
    to_released = _released_names(network)
    if all(own == released for own, released in to_released.items()):
        return
    to_own = {released: own for own, released in to_released.items()}

    def after_saving(_module: nn.Module, state: dict, prefix: str, _metadata: dict) -> None:
        _rename(state, prefix, to_released)

    def before_loading(_module: nn.Module, state: dict, prefix: str, *_others) -> None:
        _rename(state, prefix, to_own)

    network.register_state_dict_post_hook(after_saving)
    network.register_load_state_dict_pre_hook(before_loading)


def _released_names(network: PreTrainedModel) -> dict[str, str]:
    """Own name -> released name. Numbered stand-ins go through the library's conversion, so that only names can change."""
    from transformers.core_model_loading import revert_weight_conversion

    own = list(network.state_dict())
    converted = revert_weight_conversion(network, {name: torch.tensor(number, device="cpu") for number, name in enumerate(own)})
    return {own[int(number)]: released for released, number in converted.items()}


def _rename(state: dict, prefix: str, names: dict[str, str]) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + names.get(name.removeprefix(prefix), name.removeprefix(prefix))] = state.pop(name)

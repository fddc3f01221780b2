"""How a checkpoint's files and its model in memory name the same tensors; the rules are transformers' own.

Most families keep one name. Others are renamed when they are loaded (Gemma 3, Kimi Linear), or their experts, which
the files hold one by one, are stacked in memory (Mixtral).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)


class Conversion:
    """What transformers makes of the tensors of a checkpoint's files when it loads them into a model.

    Args:
        model: the model, or its skeleton.
        stored: the names in the files.
    """

    def __init__(self, model: PreTrainedModel, stored: Iterable[str]) -> None:
        self._model: Any = model
        self._state = model.state_dict()
        rules = get_model_conversion_mapping(model)
        self._converters = {
            pattern: rule for rule in rules if isinstance(rule, WeightConverter) for pattern in rule.source_patterns
        }
        self.places: dict[str, str] = {}
        """The name in memory of each stored tensor that the model reads; all parts of a stack have the stack's name."""
        self.unread: dict[str, str] = {}
        """The name that each stored tensor would have in memory which the model does not read."""
        self._sources: dict[str, list[tuple[str, str | None]]] = {}
        self._reverted: dict[str, Mapping[str, Tensor]] = {}
        # In the order of transformers: some rules hold only after an earlier name has matched.
        for name in sorted(stored, key=dot_natural_key):
            place, pattern = self._place(name, rules)
            if place not in self._state:
                self.unread[name] = place
            else:
                self.places[name] = place
                self._sources.setdefault(place, []).append((name, pattern))
        self._patterns = dict(source for sources in self._sources.values() for source in sources)
        self._first = {target: place for place in self._sources for target in self._targets(place)}
        if getattr(model, "_weight_conversions", None) is None:
            # As from_pretrained does: only rules that renamed something are undone when the model is written.
            self._model._weight_conversions = [rule for rule in rules if rule.was_used()]

    def _place(self, name: str, rules: list[Any]) -> tuple[str, str | None]:
        prefix = self._model.base_model_prefix
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        place, pattern = rename_source_key(name, renamings, converters, prefix, self._state)
        if place not in self._state and name in self._state:
            return rename_source_key(name, [], [], prefix, self._state)
        return place, pattern

    def _targets(self, place: str) -> list[str]:
        """Lists the names in memory that are made of the same stored tensors as `place`, which is the first of them."""
        pattern = self._sources[place][0][1]
        if pattern is None:
            return [place]
        first, *others = self._converters[pattern].target_patterns
        return [place, *(place.replace(first, other) for other in others)]

    def missing(self) -> list[str]:
        """Lists the parameters that the files do not hold, neither themselves nor one that they are tied to."""
        ties: Any = self._model.all_tied_weights_keys
        ignored = [re.compile(pattern) for pattern in self._model._keys_to_ignore_on_load_missing or ()]
        held = {*self._first, *(one for one, other in ties.items() if other in self._first)}
        held |= {other for one, other in ties.items() if one in held}
        names = [name for name, _ in self._model.named_parameters() if name not in held]
        return [name for name in names if not any(pattern.search(name) for pattern in ignored)]

    def holds(self, name: str) -> bool:
        """Whether the files hold a tensor of a name in memory."""
        return name in self._first

    def is_converted(self, stored: str) -> bool:
        """Whether a stored tensor is more than renamed: stacked with others, split, or transposed."""
        return self._patterns.get(stored) is not None

    def read(self, name: str, tensor_of: Callable[[str], Tensor]) -> Tensor:
        """Makes the tensor of a name in memory from the stored ones, which `tensor_of` reads by their names."""
        first = self._first[name]
        sources = self._sources[first]
        pattern = sources[0][1]
        if pattern is None:
            return tensor_of(sources[0][0])
        converter = deepcopy(self._converters[pattern])
        for stored, own_pattern in sources:
            assert own_pattern is not None
            converter.add_tensor(first, stored, own_pattern, tensor_of(stored))  # type: ignore[arg-type]
        made: Any = converter.convert(first, model=self._model, config=self._model.config)[name]
        return made[0] if isinstance(made, list) else made

    def as_stored(self, stored: str) -> Tensor | None:
        """Returns the model's present numbers for a stored tensor; None where transformers gives them other names."""
        place = self.places[stored]
        if not self.is_converted(stored):
            return self._state[place]
        if place not in self._reverted:
            whole = {target: self._state[target] for target in self._targets(place)}
            self._reverted[place] = revert_weight_conversion(self._model, whole)
        # The prefix of the model without its head may be left out.
        prefix = f"{self._model.base_model_prefix}."
        written, names = self._reverted[place], (stored, stored.removeprefix(prefix), prefix + stored)
        return next((written[name] for name in names if name in written), None)

"""Edits to the files of an adapter: to its tensors by name, and to its configuration."""

from tests.conformance.cases import case

PREFIX = "base_model.model."


def same(tensors):
    return tensors


def renamed(change):
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def in_precision(dtype):
    return lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()}


def changed(**changes):
    return lambda config: {**config, **changes}


def without(*names):
    return lambda config: {name: value for name, value in config.items() if name not in names}


def refusal(kind, tensors, config, match, *, fast=False):
    return case(kind, tensors, config, match, outcome="refused", fast=fast)

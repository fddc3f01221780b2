"""Drift that one forward pass shows: low-noise companions of the attack success rate.

Labels of sampled answers are coarse; these two move long before an answer flips.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import ModelError

CHUNK = 256
"""Positions whose full-vocabulary probabilities are in memory at once."""


def refusal_log_odds(
    refusing: Float[Tensor, "prompt refusing_opening"], complying: Float[Tensor, "prompt complying_opening"]
) -> Float[Tensor, " prompt"]:
    r"""How much likelier a prompt's answer opens with a refusal than with compliance, in nats.

    $\log \frac{1}{R}\sum_r p(r \mid x) - \log \frac{1}{C}\sum_c p(c \mid x)$ over R refusing and C complying openings:
    the mean of each group, so that a longer list of openings has no head start. Above 0 a refusal is likelier.
    Our choice.

    Args:
        refusing: Log-probability of each refusing opening, summed over its tokens; computed in fp32.
        complying: The same for the complying openings.

    Raises:
        ValueError: If either group has no opening.
    """
    if refusing.shape[1] == 0 or complying.shape[1] == 0:
        raise ValueError("`refusal_log_odds` needs at least one refusing and one complying opening.")
    return _log_mean_exp(refusing) - _log_mean_exp(complying)


def any_of(openings: Float[Tensor, "prompt opening"]) -> Float[Tensor, " prompt"]:
    """The probability that an answer begins with one of some openings, from 0 to 1; their sum.

    Args:
        openings: Log-probability of each, summed over its tokens; none may begin with another.
    """
    return openings.float().exp().sum(dim=1)


def kl_divergence(
    reference_logits: Float[Tensor, "position reference_vocab"], logits: Float[Tensor, "position vocab"]
) -> Float[Tensor, " position"]:
    r"""How far the model's next-token distribution is from the reference's at each position, in nats.

    $\mathrm{KL}(r \parallel p) = \sum_v r(v) \log \frac{r(v)}{p(v)}$, r the reference's distribution, p the model's.
    Computed in fp32, `CHUNK` positions at a time; how the positions are cut does not change a result. A token that the
    reference rules out (logit of minus infinity) adds nothing.

    Raises:
        ModelError: If the two vocabularies differ in size.
    """
    if reference_logits.shape != logits.shape:
        raise ModelError(
            f"the reference gives logits of shape {tuple(reference_logits.shape)}, the model {tuple(logits.shape)}: "
            "KL needs two models with one vocabulary on the same text"
        )
    pairs = zip(reference_logits.split(CHUNK), logits.split(CHUNK), strict=True)
    return torch.cat([_kl(reference, model) for reference, model in pairs])


def _log_mean_exp(values: Float[Tensor, "prompt opening"]) -> Float[Tensor, " prompt"]:
    return values.float().logsumexp(dim=1) - math.log(values.shape[1])


def _kl(
    reference_logits: Float[Tensor, "position vocab"], logits: Float[Tensor, "position vocab"]
) -> Float[Tensor, " position"]:
    log_reference = reference_logits.float().log_softmax(dim=-1)
    ratio = log_reference - logits.float().log_softmax(dim=-1)
    terms = log_reference.exp() * ratio
    return terms.masked_fill(log_reference == -torch.inf, 0.0).sum(dim=-1)

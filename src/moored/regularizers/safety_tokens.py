"""Safety-token regularization (STR): holds the logits of refusal tokens to those of the aligned model.

Source: "Guardrails in Logit Space: Safety Token Regularization for LLM Alignment Preservation" (arXiv 2604.17210).
From the paper: tokens taken from the aligned model's own rejections, their logits held to the frozen initial model's
in the same context, added to the task loss. *Reconstructed*: its full text could not be read, so that the squared
difference, the positions, the choice of the tokens and every default are ours, as are the other forms.
"""

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from moored.errors import InputError
from moored.regularizers._interface import require_strength, require_words

VOCABULARY = "vocabulary"
"""The value of `tokens` that stands for all of them."""

Form = Literal["logits", "centred", "kl", "hinge"]
Reference = Literal["cache", "model"]
Control = Literal["random_tokens"]


@dataclass(frozen=True, kw_only=True)
class SafetyTokens:
    """Holds the logits of refusal tokens, wherever the model learns to answer, to those that it started with.

    Raises:
        InputError: a strength below 0, a form, a reference or a control that does not exist, an empty or doubled
            token, `first` below 1, or settings that exclude each other.
    """

    strength: float
    """The factor λ in the loss, ≥ 0; 0 declares it off. It does not carry over from one model to another."""
    tokens: tuple[str, ...] | list[str] | str | None = None
    """Texts of one token each (" cannot" and "cannot" are two), or the path of a file of `find_safety_tokens`.

    None has `moored train` find them. "vocabulary" takes all tokens, a control, with `form="kl"`.
    """
    form: Form = "logits"
    """The penalty of token v with logit z: `logits` (z − z_ref)²; `centred` the same with the mean over the vocabulary
    taken from each logit first; `hinge` max(0, z_ref − z)²; `kl` the divergence of the softmax over these tokens alone.
    """
    first: int | None = None
    """Only the first so many tokens of each answer are guarded, ≥ 1; None guards all."""
    reference: Reference = "cache"
    """Where z_ref comes from: logits written once before the first step, or the weights of the start at each step."""
    cache: str | None = None
    """The folder of those logits; None keeps them for the run only."""
    control: Control | None = None
    """`random_tokens` puts as many other tokens of like frequency, drawn at random, in the place of these."""
    seed: int = 0
    """The seed of that draw."""
    name: str = field(default="safety_tokens", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset({"reference", "hidden_states"}), init=False, repr=False)

    def __post_init__(self) -> None:
        require_strength(self)
        if isinstance(self.tokens, list):
            object.__setattr__(self, "tokens", tuple(self.tokens))
        require_words(self)
        if self.first is not None and self.first < 1:
            raise InputError(f"SafetyTokens(first=...) must be at least 1, got {self.first}; None guards all tokens.")
        if self.cache is not None and self.reference != "cache":
            raise InputError(
                f'SafetyTokens(cache=...) names a folder for reference="cache", but the reference is {self.reference}; '
                "leave one of the two out."
            )
        if self.tokens is not None:
            _check_tokens(self.tokens)
        if self.tokens == VOCABULARY:
            self._check_vocabulary()

    @property
    def all_tokens(self) -> bool:
        """Whether the whole vocabulary is guarded."""
        return self.tokens == VOCABULARY

    def token_penalty(
        self, salient_logits: Float[Tensor, "position token"], reference_logits: Float[Tensor, "position token"]
    ) -> Float[Tensor, "position token"]:
        r"""One value per guarded position and salient token, ≥ 0 but for `kl`, in fp32 and not reduced.

        With the form `centred` both logits come with the mean over the vocabulary taken away. With `kl` the values are
        the terms $r_v \log (r_v / p_v)$ of $\mathrm{KL}(r \parallel p)$ at their position, r the softmax of the
        reference's logits over these tokens, p the model's: single ones may be negative, their sum over the tokens is
        the divergence in nats. The mean over tokens that the glue takes is thus the divergence divided by their number,
        while it is a mean of squares with the other forms.
        """
        logits, reference = salient_logits.float(), reference_logits.float()
        if self.form == "kl":
            return _divergence_terms(logits, reference)
        missing = reference - logits
        return (missing.relu() if self.form == "hinge" else missing).square()

    def _check_vocabulary(self) -> None:
        if self.form != "kl" or self.reference != "model":
            raise InputError(
                f'SafetyTokens(tokens="{VOCABULARY}") is the control of full divergence and needs form="kl" and '
                f'reference="model", but they are {self.form} and {self.reference}.'
            )
        if self.control is not None:
            raise InputError(f'SafetyTokens(tokens="{VOCABULARY}") leaves no other tokens to draw; leave control out.')


def _divergence_terms(
    logits: Float[Tensor, "position token"], reference: Float[Tensor, "position token"]
) -> Float[Tensor, "position token"]:
    log_reference = reference.log_softmax(-1)
    terms = F.kl_div(logits.log_softmax(-1), log_reference, reduction="none", log_target=True)
    # A token that the reference rules out (a logit of minus infinity) adds nothing.
    return terms.masked_fill(log_reference.isneginf(), 0.0)


def _check_tokens(tokens: tuple[str, ...] | list[str] | str) -> None:
    if not tokens:
        raise InputError("SafetyTokens(tokens=...) is empty; name some tokens, or leave it out.")
    for text in () if isinstance(tokens, str) else tokens:
        if not isinstance(text, str) or not text:
            raise InputError(f"SafetyTokens(tokens=...) holds {text!r}, which is no text; put it in quotes or drop it.")
        if tokens.count(text) > 1:
            raise InputError(f"SafetyTokens(tokens=...) names {text!r} twice; name it once.")

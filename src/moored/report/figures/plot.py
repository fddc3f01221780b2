"""A picture with what stands above it."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture with its heading and a remark."""

    heading: str
    remark: str
    svg: Markup

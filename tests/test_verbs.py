import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from typer import Typer
from typer.testing import CliRunner

from moored.cli._command import command
from moored.errors import InputError
from moored.files import sole_writer
from moored.verbs import Settings, bounded, meanings, verb


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    """What two commands share."""

    model: str
    """The model's name."""


@dataclass(frozen=True, kw_only=True)
class LookSettings(Base):
    """The settings of a look."""

    out: Path | None = None
    """The folder."""
    share: float = bounded(0.5, above=0, most=1)
    """The share to keep."""
    way: Literal["fast", "exact"] | None = None
    """The way to go."""
    deep: bool = False
    """Whether to look deep."""


@dataclass(frozen=True, kw_only=True)
class PairSettings(Base):
    """The settings of a look at a model and its data."""

    data: str = field(metadata={"flag": "--data"})
    """The rows."""
    length: float = bounded(1.0, below=2)
    """The length."""


@verb(LookSettings)
def look(settings: LookSettings, *, console: object = None) -> LookSettings:
    """Looks.

    Returns:
        What it was given.
    """
    return settings


def test_a_verb_takes_its_settings_whole_or_singly():
    whole = LookSettings(model="m", out=Path("o"), share=1.0)
    assert look(whole) is whole
    assert look("m", out="o", share=1) == look(model="m", out=Path("o"), share="1") == whole


def test_a_verb_has_its_folder_to_itself(tmp_path):
    with sole_writer(tmp_path):
        with pytest.raises(InputError, match="Another moored process is writing"):
            look("m", out=tmp_path)
        assert look("m").out is None
    assert look("m", out=tmp_path).out == tmp_path


def test_signature_and_docstring_list_every_setting():
    parameters = inspect.signature(look).parameters
    assert list(parameters) == ["model", "out", "share", "way", "deep", "console"]
    assert parameters["model"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and parameters["share"].default == 0.5
    words = look.__doc__ or ""
    assert "    share: The share to keep.\n" in words and words.endswith("What it was given.")
    assert meanings(LookSettings)["model"] == "The model's name."


@pytest.mark.parametrize(
    ("given", "stated", "sentence"),
    [
        ((), {}, "look needs model: The model's name."),
        (("m", "n"), {}, r"look takes 1 positional arguments \(model\), got 2"),
        (("m",), {"shrae": 1}, "look: unknown key shrae; did you mean share"),
        (("m",), {"share": "much"}, "share is 'much', but it must be a number"),
        (("m",), {"share": 0}, "share must be above 0 and at most 1, got 0"),
        (("m",), {"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        (("m",), {"way": "slow"}, "way is 'slow', but it must be fast, exact or null"),
        ((LookSettings(model="m"),), {"share": 1}, "not both"),
    ],
)
def test_what_is_wrong_is_one_sentence(given, stated, sentence):
    with pytest.raises(InputError, match=sentence):
        look(*given, **stated)


def test_a_setting_with_a_flag_is_required_but_not_positional():
    @verb(PairSettings)
    def pair(settings, *, console=None):
        """Looks."""
        return settings

    assert pair("m", data="d") == PairSettings(model="m", data="d")
    with pytest.raises(InputError, match=r"takes 1 positional arguments \(model\), got 2"):
        pair("m", "d")
    seen, app = [], Typer()
    app.command()(command(PairSettings, seen.append))
    assert CliRunner().invoke(app, ["m", "--data", "d"]).exit_code == 0 and seen == [PairSettings(model="m", data="d")]
    assert "--data" in CliRunner().invoke(app, ["m"]).output


def test_a_value_may_have_to_be_below_its_bound():
    with pytest.raises(InputError, match=r"length must be below 2, got 2\.0"):
        PairSettings(model="m", data="d", length=2)


def test_settings_made_directly_are_checked_and_converted_too():
    assert LookSettings(model="m", out="o").out == Path("o")
    with pytest.raises(InputError, match="share must be above 0"):
        LookSettings(model="m", share=0.0)


def test_the_record_of_the_settings_is_json():
    assert LookSettings(model="m", out=Path("o")).stated() == {
        "model": "m",
        "out": "o",
        "share": 0.5,
        "way": None,
        "deep": False,
    }


@pytest.fixture
def run():
    seen = []

    def look_command(settings: LookSettings) -> None:
        """Looks at a model."""
        seen.append(settings)

    app = Typer()
    app.command()(command(LookSettings, look_command))

    def invoke(*arguments):
        return CliRunner().invoke(app, arguments), seen

    return invoke


def test_a_command_has_an_argument_or_option_for_each_setting(run):
    done, seen = run("m", "--out", "o", "--share", "0.25", "--way", "exact", "--deep")
    assert done.exit_code == 0, done.output
    assert seen == [LookSettings(model="m", out=Path("o"), share=0.25, way="exact", deep=True)]


def test_on_the_command_line_out_is_required(run):
    done, seen = run("m")
    assert done.exit_code == 2 and "--out" in done.output and not seen


def test_the_help_is_made_of_the_docstrings(run):
    text = " ".join(run("--help")[0].output.split())
    for part in ("Looks at a model.", "The model's name.", "The share to keep.", "Whether to look deep."):
        assert part in text

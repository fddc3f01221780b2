"""The console entry: how every command ends."""

import os
import subprocess
import sys

import pytest

import moored
from moored import cli
from moored.errors import GateError, InactiveError, InputError


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `moored` with arguments and gives the exit code, stdout and stderr."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["moored", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def failing(monkeypatch):
    """Adds a command that raises what it is told to."""

    def add(error):
        def command() -> None:
            raise error

        commands = [each for each in cli.app.registered_commands if each.name != "fail"]
        monkeypatch.setattr(cli.app, "registered_commands", commands)
        cli.app.command("fail")(command)

    return add


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("No [b]file[/b] x."), 2), (InactiveError("Nothing."), 2), (GateError("Fell."), 3)]
)
def test_an_error_of_ours_is_one_sentence_with_its_code(run, failing, error, code):
    failing(error)
    assert run("fail") == (code, "", f"moored: {error}\n")


def test_what_an_error_quotes_is_no_command_to_the_terminal(run, failing):
    failing(InputError("Prompt \x1b[2J of runs[/x] is empty."))
    assert run("fail") == (2, "", "moored: Prompt ␛[2J of runs[/x] is empty.\n")


def test_the_version_is_told(run):
    assert run("--version") == (0, f"moored {moored.__version__}\n", "")


def test_an_interruption_is_130(run, failing):
    failing(KeyboardInterrupt())
    code, out, err = run("fail")
    assert (code, out) == (130, "")
    assert err.startswith("moored: interrupted; repeat the same command to resume measure or demo, add --resume ")


def test_a_defect_of_ours_keeps_its_traceback(run, failing, monkeypatch):
    failing(ZeroDivisionError("ours"))
    monkeypatch.setattr(sys, "argv", ["moored", "fail"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nonsense"], "moored: No such option: --nonsense; see `moored --help`."),
        (["nonsense"], "moored: No such command 'nonsense'; see `moored --help`."),
        (["mesure"], "moored: No such command 'mesure'; did you mean 'measure'; see `moored --help`."),
        (["measure"], "moored: Missing argument 'model'; see `moored measure --help`."),
        (["measure", "x"], "moored: Missing option '--out'; see `moored measure --help`."),
        (["recover", "x", "--out", "y", "--stepz", "3"], "moored: No such option: --stepz"),
        (["measure", "x", "--out", "y", "--limit", "many"], "moored: Invalid value for '--limit': "),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(run, arguments, sentence):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith(sentence) and err.count("\n") == 1 and err.endswith("--help`.\n")


def test_no_arguments_show_the_help(run):
    code, out, err = run()
    assert code == 2 and err == "" and "Usage" in out and "measure" in out


_COMMANDS = [[], ["measure"], ["recover"], ["train"], ["select"], ["demo"], ["inspect", "basin"]]


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_is_shown_without_importing_what_is_slow(command):
    code = f"import sys; sys.argv = ['moored', *{command}, '--help']\nfrom moored.cli import main\ntry: main()\n"
    slow = {"torch", "transformers", "trl", "datasets"}
    code += f"except SystemExit as ended: print(ended.code, sorted({slow} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 []\n") and "Usage" in done.stdout and done.stderr == ""


def test_a_reader_that_stops_reading_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = "import sys; sys.argv = ['moored', 'measure', '--help']; from moored.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == "" and done.returncode == 1


def test_every_error_of_the_user_s_exits_with_2_without_a_traceback(tmp_path):
    """Through the interpreter, as a shell would."""
    code = "from moored.cli import main; main()"
    command = [sys.executable, "-c", code, "recover", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.startswith("moored: ") and done.stderr.count("\n") == 1 and "is not a local folder" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []

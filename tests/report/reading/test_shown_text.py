import pytest

from moored.report.reading.shown_text import shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nΓειά 你好 مرحبا 👩‍👩‍👧", "plain\ttext\nΓειά 你好 مرحبا 👩‍👩‍👧"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a␍b"),
        ("nul \x00 bell \x07 escape \x1b[31m", "nul ␀ bell ␇ escape ␛[31m"),
        ("\x7f\x85\x9b", "⟨U+007F⟩⟨U+0085⟩⟨U+009B⟩"),
        ("ab\u202ecd\u2066e\u200f", "ab⟨U+202E⟩cd⟨U+2066⟩e⟨U+200F⟩"),
        ("zero\u200bwidth\ufeff\u2028line", "zero⟨U+200B⟩width⟨U+FEFF⟩⟨U+2028⟩line"),
        ("lone \ud800 and \udfff", "lone \ufffd and \ufffd"),
        ("tag \U000e0041", "tag ⟨U+E0041⟩"),
        ("", ""),
    ],
)
def test_odd_characters_become_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode("utf-8")


def test_doing_it_twice_changes_nothing() -> None:
    everything = "".join(map(chr, range(0x3000))) + "\ud800"
    assert visible(visible(everything)) == visible(everything)


def test_shortened_counts_what_is_left_off() -> None:
    assert shortened("abcdef", 4) == ("abcd", 2)
    assert shortened("abcd", 4) == ("abcd", 0)

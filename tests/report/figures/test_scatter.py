from xml.etree import ElementTree

from moored.report.figures.scatter import Cloud, scatter_plot
from moored.report.figures.svg import ABLE, MUTED


def drawn(*clouds: Cloud) -> ElementTree.Element | None:
    svg = scatter_plot(clouds, name="s", title="Points", across="tokens", up="norm", description="Two kinds.")
    return None if svg is None else ElementTree.fromstring(str(svg))


def places(root: ElementTree.Element, color: str) -> list[tuple[float, float]]:
    """Where the marks of a colour stand; the last is the legend's where there is one."""
    uses = [each for each in root.iter("use") if color in (each.get("style") or "")]
    return [(float(each.attrib["x"]), float(each.attrib["y"])) for each in uses]


def test_points_stand_where_their_logarithms_say():
    root = drawn(Cloud(label="all", points=[(1, 1), (10, 10), (100, 1000)], color=ABLE))
    assert root is not None
    (x0, y0), (x1, y1), (x2, y2) = places(root, "var(--able)")
    assert abs((x2 - x1) - (x1 - x0)) < 0.01 and x2 > x0
    assert abs((y2 - y1) - 2 * (y1 - y0)) < 0.01 and y2 < y0


def test_several_kinds_have_a_legend_and_a_description():
    root = drawn(
        Cloud(label="others", points=[(1, 2)], color=MUTED),
        Cloud(label="moderate", points=[(3, 4), (5, 6)], color=ABLE, marker="s"),
    )
    assert root is not None
    texts = ["".join(each.itertext()) for each in root.iter("text")]
    assert {"others", "moderate", "tokens", "norm"} <= set(texts)
    assert len(places(root, "var(--able)")) == 3 and root.findtext("desc") == "Two kinds."


def test_what_has_no_logarithm_is_left_out():
    root = drawn(Cloud(label="all", points=[(0, 1), (2, 0), (2, 3)], color=ABLE))
    assert root is not None and len(places(root, "var(--able)")) == 1
    assert drawn(Cloud(label="all", points=[(0, 1)], color=ABLE)) is None

"""What pictures and style sheets promise: nothing from outside, one palette for both programs, readable colours."""

import re
from math import cos, radians, sin
from pathlib import Path

import pytest

import balancer.admin
import sessiond.demo
from sessiond.demo.cart import CATALOGUE
from sessiond.demo.events import BEAT_S
from sessiond.demo.nodes import COLOURS, colour_of

SHOP = Path(sessiond.demo.__file__).parent
DASHBOARD = Path(balancer.admin.__file__).parent
FILES = sorted(
    path
    for folder in (SHOP, DASHBOARD)
    for path in folder.iterdir()
    if path.suffix in {".html", ".css", ".js", ".svg"}
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_page_refers_to_another_host(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?:|(?:src|href|action)=[\"']?//|url\(|@import", text) == []


def test_every_item_has_a_picture() -> None:
    pictures = set(re.findall(r'id="pic-(\w+)"', (SHOP / "pictures.svg").read_text()))
    assert pictures == set(CATALOGUE)


def test_neighbours_by_number_differ_in_colour_and_any_name_has_one() -> None:
    assert [colour_of(f"node{n}") for n in range(1, 10)] == list(range(1, 10))
    assert colour_of("web-0") == 0
    assert all(0 <= colour_of(name) < COLOURS for name in ("a", "alpha", "node-b", "x_"))


def hues(style: str) -> dict[int, int]:
    return {int(name): int(hue) for name, hue in re.findall(r"\.hue-(\d) \{ --hue: (\d+) \}", style)}


def variables(style: str) -> list[dict[str, str]]:
    """The values of the light scheme, then those of the dark one."""
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    first = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    return [first, first | dict(re.findall(r"--([\w-]+): ([^;]+);", dark))]


def test_shop_and_dashboard_share_their_colours() -> None:
    shop, dashboard = (SHOP / "shop.css").read_text(), (DASHBOARD / "dashboard.css").read_text()
    assert hues(shop) == hues(dashboard)
    assert set(hues(shop)) == set(range(COLOURS))
    for ours, theirs in zip(variables(shop), variables(dashboard), strict=True):
        for name in ours.keys() & theirs.keys():
            assert ours[name] == theirs[name], name


def luminance(lightness: float, chroma: float, hue: float) -> float:
    """Relative luminance (WCAG) of an OKLCH colour, clipped to sRGB. Matrices: Ottosson, "A perceptual color space"."""
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    red, green, blue = (min(max(part, 0.0), 1.0) for part in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return (high + 0.05) / (low + 0.05)


def oklch(value: str) -> tuple[float, float, float]:
    lightness, chroma, hue = re.fullmatch(r"oklch\(([\d.]+) ([\d.]+) ([\d.]+)\)", value).groups()
    return float(lightness), float(chroma), float(hue)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_node_colour_is_readable_in_both_schemes(scheme: int) -> None:
    style = (SHOP / "shop.css").read_text()
    look = variables(style)[scheme]
    card = luminance(*oklch(look["card"]))
    for hue in hues(style).values():
        fill = luminance(float(look["fill-l"]), float(look["fill-c"]), hue)
        assert contrast(luminance(0.92, 0.03, hue), fill) >= 4.5  # the faintest text on the node's own colour
        assert contrast(luminance(float(look["mark-l"]), float(look["mark-c"]), hue), card) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "soft", "bad"])
def test_text_is_readable_on_paper_and_cards(scheme: int, text: str) -> None:
    look = variables((SHOP / "shop.css").read_text())[scheme]
    for ground in ("paper", "card"):
        assert contrast(luminance(*oklch(look[text])), luminance(*oklch(look[ground]))) >= 4.5


def test_a_page_waits_several_beats_before_it_gives_a_stream_up() -> None:
    silence_ms = int(re.search(r"const SILENCE_MS = (\d+)", (SHOP / "shop.js").read_text()).group(1))
    assert silence_ms >= BEAT_S * 1000 * 2.5

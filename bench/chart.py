"""The picture of a benchmark: horizontal bars, in SVG, that reads on light and dark pages."""

from collections.abc import Mapping
from html import escape

WIDTH, BAR, GAP, LABELS, HEAD = 860, 26, 12, 350, 84
OURS = "Lastpair: "

STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 14px; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .card { fill: #ffffff; stroke: #d1d9e0 }
  .ours { fill: #0f766e }
  .theirs { fill: #a8b3bd }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .note { fill: #9198a1 }
    .card { fill: #0d1117; stroke: #3d444d }
    .ours { fill: #2dd4bf }
    .theirs { fill: #5b6570 }
  }
"""


def draw(rates: Mapping[str, float], note: str) -> str:
    """What was measured and how many a second, the fastest first, as an SVG document."""
    scale = (WIDTH - LABELS - 110) / max(rates.values())
    height = HEAD + len(rates) * (BAR + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        '<title id="title">Requests a second: Lastpair and what it is compared with</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        '<text class="title" x="24" y="36">Requests a second, over HTTP</text>',
        f'<text class="note" x="24" y="58">{escape(note)}</text>',
    ]
    for row, (label, rate) in enumerate(sorted(rates.items(), key=lambda item: -item[1])):
        y = HEAD + row * (BAR + GAP)
        kind = "ours" if label.startswith(OURS) else "theirs"
        lines += [
            f'<text x="{LABELS - 12}" y="{y + 18}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{max(2, rate * scale):.0f}" height="{BAR}" rx="3"/>',
            f'<text x="{LABELS + rate * scale + 10:.0f}" y="{y + 18}">{rate:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"

"""How the HTML report looks: on a phone, on a desk, in the dark and on paper."""

_LIGHT = ["#0b63c4", "#5ba3f0", "#c2410c", "#f59e0b", "#a21caf", "#e07bd8", "#15803d", "#6b7280", "#0e7490", "#7c5c1e"]
_DARK = ["#5aa9ff", "#2f6fb5", "#ff8a4c", "#ffc24d", "#d580ff", "#8f4aa8", "#4ecb71", "#a3adba", "#3cc7dd", "#c9a35a"]

_RULES = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;background:var(--paper);
color:var(--ink)}
h1{font-size:1.5rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:.95rem;margin:0 0 .5rem}
small{font-weight:400;color:var(--faint);font-size:.85em}
p,li{max-width:46rem}
ul{padding-left:1.2rem}
.charts{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr))}
figure{margin:0;padding:.9rem;border:1px solid var(--line);border-radius:8px;break-inside:avoid;min-width:0}
.bar{margin:.15rem 0 .4rem}
.bar span{display:block;font-size:.82rem;line-height:1.3}
.bar b{font-weight:600;font-variant-numeric:tabular-nums}
.bar svg,.plot svg{display:block;width:100%;overflow:visible}
svg text{font:12px system-ui,sans-serif;fill:var(--ink);font-variant-numeric:tabular-nums}
svg text.tick{fill:var(--faint);font-size:11.5px}
.grid{stroke:var(--line);stroke-width:1}
polyline{fill:none;stroke-width:2;stroke-linejoin:round}
.spread{stroke-width:1.5;opacity:.6}
.ink{stroke:var(--ink)}
.soft{opacity:.35}
.thick{stroke-width:3}
.ring{fill:none;stroke-width:2}
.legend{display:flex;flex-wrap:wrap;gap:.15rem .9rem;font-size:.8rem;margin-top:.5rem}
.legend span{overflow-wrap:anywhere}
.legend svg{display:inline-block;width:12px;height:12px;vertical-align:-1px}
.wide{overflow-x:auto;margin:0 0 1rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:bottom}
th{font-weight:600}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);min-width:9rem}
td{white-space:nowrap}
td:first-child{white-space:normal}
@media print{body{max-width:none;padding:0;font-size:10pt}.charts{grid-template-columns:1fr 1fr}
.wide{overflow:visible}table{font-size:7.5pt}th,td{padding:.15rem .3rem}td,th{white-space:normal}
th:first-child,td:first-child{position:static;min-width:0}h2{break-after:avoid}}
"""


def style() -> str:
    """Return the style sheet. Classes c0, c1, … fill with the colours of the targets, s0, s1, … draw lines."""
    light = _variables(_LIGHT, "--paper:#fff;--ink:#16181d;--faint:#5b6472;--line:#dfe3e8")
    dark = _variables(_DARK, "--paper:#111418;--ink:#e8eaee;--faint:#9aa4b2;--line:#2b3139")
    colours = "".join(f".c{n}{{fill:var(--c{n})}}.s{n}{{stroke:var(--c{n})}}" for n in range(len(_LIGHT)))
    return (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{_RULES}{colours}"
    )


def _variables(colours: list[str], others: str) -> str:
    return ";".join([*(f"--c{n}:{colour}" for n, colour in enumerate(colours)), others])

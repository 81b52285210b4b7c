"""The stylesheet of report.html."""

CSS = """
:root { --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --tint: #f8fafc; --blue: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); -webkit-font-smoothing: antialiased;
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 64px 32px 96px; }
.eyebrow { color: var(--soft); font-size: 13px; letter-spacing: .02em; margin: 0 0 12px; }
h1 { font-size: 34px; line-height: 1.22; letter-spacing: -.02em; font-weight: 680;
  max-width: 24em; margin: 0 0 20px; text-wrap: balance; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 72px 0 8px; font-weight: 650; }
h3 { font-size: 15px; margin: 32px 0 10px; font-weight: 620; }
p { max-width: 44em; margin: 0 0 12px; }
.lead { color: #334155; font-size: 16px; margin: 0 0 4px; max-width: none; }
header .note { margin-top: 16px; }
.note { color: var(--soft); font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; margin: 16px 0;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 550; font-size: 13px; color: var(--soft); }
th, td { padding: 9px 16px 9px 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.b { font-weight: 620; }
.pm { color: var(--soft); font-weight: 400; }
.tag { display: inline-block; padding: 1px 9px; border-radius: 99px; font-size: 13px;
  background: #f1f5f9; color: #475569; white-space: nowrap; }
.tag.higher { background: #dcfce7; color: #166534; }
.tag.lower { background: #fee2e2; color: #991b1b; }
.charts { display: grid; gap: 28px 40px; margin: 24px 0 8px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.dots { gap: 28px 44px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
figure { margin: 0; min-width: 0; }
.chart { max-width: 520px; }
.dots .chart { max-width: 340px; }
figcaption { font-size: 14px; font-weight: 550; margin-bottom: 6px; }
svg { width: 100%; height: auto; display: block; }
svg .rule { stroke: var(--line); stroke-width: 1; }
svg .tick { font-size: 11px; fill: var(--soft); }
svg .name { font-size: 12px; font-weight: 600; }
svg .value { font-size: 12px; fill: var(--ink); font-weight: 600; }
svg .mean { stroke-width: 2.5; }
svg .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.panel { display: grid; gap: 10px; margin: 18px 0; overflow-x: auto; align-items: center; }
.panel div { font-size: 13px; line-height: 1.35; font-weight: 550; color: var(--soft); }
.panel img { width: 100%; min-width: 96px; display: block; border-radius: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: #334155; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 7px; }
details { margin: 12px 0; border-top: 1px solid var(--line); padding-top: 12px; }
summary { cursor: pointer; font-weight: 550; font-size: 15px; }
code { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; color: #334155; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 6px 28px; font-size: 14px;
  margin: 16px 0; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { main { padding: 36px 18px 64px; } h1 { font-size: 26px; } }
@media print { main { padding: 0; } details { break-inside: avoid; } }
"""

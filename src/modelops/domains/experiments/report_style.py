"""The look of a report, in light and in dark. Colours of lines are those that Okabe and Ito chose for every kind of eye."""

STYLE = """
:root{--paper:#fff;--ink:#1c2330;--quiet:#5d6675;--rule:#dfe3ea;--soft:#f5f7fa;--mark:#0b62c4;--dim:#8a94a6;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b8559a;--c4:#a07800;--c5:#2f8fbf}
@media (prefers-color-scheme:dark){:root{--paper:#12161d;--ink:#e6eaf1;--quiet:#9aa5b6;--rule:#2b3340;--soft:#1a202a;
--mark:#6db3ff;--dim:#76829a;--c0:#56b4e9;--c1:#ff8c42;--c2:#2fcf9f;--c3:#e59ac9;--c4:#e6c34a;--c5:#9fd3f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 16px;overflow-wrap:anywhere}
h2{font-size:19px;margin:0 0 12px}h3{font-size:15px;margin:20px 0 4px}
section{margin-top:36px;padding-top:20px;border-top:1px solid var(--rule)}
p{margin:0 0 10px;max-width:75ch;overflow-wrap:anywhere}.note,figcaption{color:var(--quiet);font-size:13px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:0 0 12px}
.tiles div{background:var(--soft);border:1px solid var(--rule);border-radius:8px;padding:10px 16px;min-width:110px}
dt{color:var(--quiet);font-size:13px}dd{margin:0;font-size:22px;font-variant-numeric:tabular-nums}
figure{margin:0 0 20px}svg{display:block;width:100%;height:auto}
.table{overflow-x:auto;margin:8px 0 14px;border:1px solid var(--rule);border-radius:8px}
.table:focus-visible{outline:2px solid var(--mark)}
table{border-collapse:collapse;width:100%;font-size:13px}
caption{text-align:left;padding:8px 12px;color:var(--quiet)}
th,td{padding:6px 12px;text-align:left;border-top:1px solid var(--rule);max-width:320px;overflow-wrap:anywhere;
vertical-align:top}
thead th{background:var(--soft);font-weight:600;white-space:nowrap}tbody th{font-weight:500;min-width:90px}
td.n,th.n{text-align:right}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
summary{cursor:pointer;color:var(--quiet);font-size:13px;margin:6px 0}
ul{padding-left:20px}.legend{list-style:none;padding:0;margin:4px 0 0;display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px}
.legend li{display:flex;align-items:center;gap:6px}.legend svg{width:28px}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .tick{fill:var(--quiet);font-size:11px}
svg .head{font-weight:600}svg .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.axis{stroke:var(--quiet);fill:none;stroke-width:1}.grid{stroke:var(--rule);stroke-width:1}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.line.quiet{stroke:var(--dim);stroke-width:1;opacity:.4}.line.mark{stroke:var(--mark)}.line.thin{stroke-width:1;
stroke-dasharray:4 3}
.line.quiet:hover,.line.mark:hover{stroke:var(--c1);opacity:1;stroke-width:3}
.point.quiet{fill:var(--dim);opacity:.65}.point.mark{fill:var(--mark)}
.bar{fill:var(--c0)}.whisker{stroke:var(--ink);fill:none;stroke-width:1.2}.band{opacity:.2;stroke:none}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1);stroke-dasharray:7 3}.c2{stroke:var(--c2);stroke-dasharray:2 3}
.c3{stroke:var(--c3);stroke-dasharray:9 3 2 3}.c4{stroke:var(--c4);stroke-dasharray:5 5}.c5{stroke:var(--c5);
stroke-dasharray:1 4}
.band.c0{fill:var(--c0)}.band.c1{fill:var(--c1)}.band.c2{fill:var(--c2)}.band.c3{fill:var(--c3)}
.band.c4{fill:var(--c4)}.band.c5{fill:var(--c5)}
@media print{section{break-inside:avoid}}
"""

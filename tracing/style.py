"""How a trace looks: calm, in light and dark, readable without colours, its focus visible."""

# Every rule stays below `.artrag-trace`: a notebook's other cells are not ours.
STYLE = """
.artrag-trace{color-scheme:light dark;--paper:#f7f7f5;--card:#fff;--ink:#1f2430;--dim:#5b6472;--line:#e2e4e8;
--soft:#f1f2f4;--accent:#2f55c5;--mark:#fdeeb5;--good:#1c7048;--warn:#8a5300;--bad:#b3261e;--old:#fbe3e1;--new:#dcf1e4;
font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper);
padding:28px 20px;overflow-wrap:anywhere}
.artrag-trace *{box-sizing:border-box}
.artrag-trace>*{max-width:1000px;margin-left:auto;margin-right:auto}
.artrag-trace h1{font-size:15px;font-weight:600;margin:0 auto 14px;color:var(--dim)}
.artrag-trace h2{font-size:13px;font-weight:600;margin:26px 0 8px;color:var(--dim)}
.artrag-trace .run>.inside>h2:first-child{margin-top:0}
.artrag-trace p{margin:6px 0}
.artrag-trace summary{cursor:pointer;list-style-position:outside}
.artrag-trace :focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:5px}
.artrag-trace a{color:var(--accent);text-decoration:none;font-weight:600}
.artrag-trace a:hover{text-decoration:underline}
.artrag-trace .note{border-left:3px solid var(--warn);padding:2px 12px;color:var(--warn);margin-bottom:14px}
.artrag-trace .run{background:var(--card);border:1px solid var(--line);border-radius:12px;margin-bottom:16px}
.artrag-trace .run>summary{padding:16px 22px 16px 2px;margin-left:38px}
.artrag-trace .run>.inside{padding:0 22px 22px}
.artrag-trace .name{font-weight:600}
.artrag-trace .dim,.artrag-trace .cost{color:var(--dim);font-size:13px;font-weight:400}
.artrag-trace .cost{font-variant-numeric:tabular-nums;white-space:nowrap}
.artrag-trace .good{color:var(--good)}.artrag-trace .warn{color:var(--warn)}.artrag-trace .bad{color:var(--bad)}
.artrag-trace .answer{font-size:19px;line-height:1.45;margin:4px 0 10px;white-space:pre-wrap}
.artrag-trace .facts{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:0}
.artrag-trace .facts dt{color:var(--dim)}.artrag-trace .facts dd{margin:0}
.artrag-trace .meter{display:inline-block;width:90px;height:7px;margin-right:8px;vertical-align:1px}
.artrag-trace svg rect{fill:var(--line)}.artrag-trace svg rect+rect{fill:var(--accent)}
.artrag-trace .answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:12px}
.artrag-trace .answers>div{border:1px solid var(--line);border-radius:9px;padding:11px 14px}
.artrag-trace .answers>.chosen{border:2px solid var(--accent);padding:10px 13px}
.artrag-trace .said{white-space:pre-wrap;margin:6px 0 0;max-height:26em;overflow:auto}
.artrag-trace del{background:var(--old);text-decoration-color:var(--bad)}
.artrag-trace ins{background:var(--new);text-decoration:none;border-bottom:1px solid var(--good)}
.artrag-trace mark{background:var(--mark);color:inherit;border-radius:3px;padding:1px 2px;box-decoration-break:clone}
.artrag-trace .asked{list-style:none;padding:0;margin:0}
.artrag-trace .asked b{display:inline-block;min-width:5.6em;white-space:nowrap;font-weight:600}
.artrag-trace .passage{border:1px solid var(--line);border-radius:9px;margin-bottom:8px}
.artrag-trace .passage>summary{padding:8px 14px 8px 2px;margin-left:30px}
.artrag-trace .passage>div{padding:0 14px 10px 32px}
.artrag-trace .text{white-space:pre-wrap;margin:6px 0;max-height:30em;overflow:auto}
.artrag-trace .steps{margin-top:4px}
.artrag-trace .steps details{border-top:1px solid var(--line)}
.artrag-trace .steps details>.inside{padding:0 0 8px 20px}
.artrag-trace .steps summary{padding:6px 0 6px 2px;margin-left:18px}
.artrag-trace .steps .row{display:flex;gap:10px;align-items:baseline}
.artrag-trace .steps .why{flex:1;min-width:0;color:var(--ink)}
.artrag-trace .time{width:110px;height:6px;flex:none;margin-top:9px;align-self:flex-start}
.artrag-trace .edge{color:var(--accent);font-size:13px;white-space:nowrap}
.artrag-trace .steps .data{border-top-style:dotted}
.artrag-trace pre{font:12.5px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace;white-space:pre-wrap;
background:var(--soft);padding:9px 12px;border-radius:7px;max-height:26em;overflow:auto;margin:4px 0}
.artrag-trace .route{margin:0 0 4px;padding:0;list-style:none;display:flex;flex-wrap:wrap;
align-items:baseline;gap:4px 0}
.artrag-trace .route li{white-space:nowrap}
.artrag-trace .route .arrow{color:var(--dim);padding:0 8px;font-size:13px}
@media (prefers-color-scheme:dark){.artrag-trace{--paper:#14161a;--card:#1b1e24;--ink:#e3e6ea;--dim:#9aa3af;
--line:#2e333c;--soft:#23272e;--accent:#8fb0ff;--mark:#584a14;--good:#70cf9b;--warn:#e3b25c;--bad:#ff9189;--old:#47272a;--new:#1f4030}}
@media (max-width:640px){.artrag-trace .steps .row{flex-wrap:wrap}.artrag-trace .steps .why{flex-basis:100%;order:1}}
"""

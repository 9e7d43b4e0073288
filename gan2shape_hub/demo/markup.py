"""What the page shows that is no component of Gradio: its look, the progress card, the ball that holds the light."""

from __future__ import annotations

import base64
import html
import io

import gradio as gr
from PIL import Image

from gan2shape_hub.demo.estimate import in_words
from gan2shape_hub.demo.work import Report

TITLE = "GAN2Shape: one picture in, a 3D model out"

HEADER = """
<div class="hero">
  <h1>One picture in, a 3D model out</h1>
  <p>A 2D GAN that never saw a 3D shape is the only teacher. Everything runs on this machine.</p>
</div>
"""

FOOTER = """
<div class="foot">
  Turned and relit faces are synthetic: say so where you show them, and ask the people on your photographs. Pictures are
  removed when you close this tab. The face checkpoint is for non-commercial use (CC&nbsp;BY-NC-SA&nbsp;4.0).
</div>
"""

EMPTY = """
<div class="empty">
  <svg viewBox="0 0 64 64" width="56" height="56" aria-hidden="true" fill="none" stroke="currentColor"
   stroke-width="2" stroke-linejoin="round"><path d="M32 6 56 19v26L32 58 8 45V19zM8 19l24 13 24-13M32 32v26"/></svg>
  <h2>Your model will appear here</h2>
  <p>Choose a photograph or let the generator draw a face, then press <b>Reconstruct</b>.</p>
</div>
"""

CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.hero h1 { font-size: 1.9rem; line-height: 1.2; margin: .4rem 0 .2rem; font-weight: 650; letter-spacing: -.02em; }
.hero p, .foot { color: var(--body-text-color-subdued); }
.foot { font-size: .82rem; text-align: center; padding: 10px 0; }
.note { font-size: .88rem; color: var(--body-text-color-subdued); min-height: 1.3em; }
.card { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 12px 14px;
  background: var(--background-fill-primary); }
.card .line { display: flex; justify-content: space-between; gap: 12px; font-size: .92rem; }
.card .line span:last-child { color: var(--body-text-color-subdued); white-space: nowrap; }
.card .bar { height: 8px; border-radius: 4px; background: var(--background-fill-secondary); overflow: hidden;
  margin: 8px 0 2px; box-shadow: inset 0 0 0 1px var(--border-color-primary); }
.card .bar div { height: 100%; border-radius: 4px; transition: width .4s linear;
  background: linear-gradient(90deg, #6366f1, #d946ef); }
.card.stopped .bar div { background: #94a3b8; }
.card .looks { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; margin-top: 10px; }
.card figure { margin: 0; } .card figcaption { font-size: .8rem; color: var(--body-text-color-subdued);
  text-align: center; padding-top: 3px; }
.card img { width: 100%; border-radius: 8px; display: block; }
.empty { display: flex; flex-direction: column; align-items: center; justify-content: center; min-height: 420px;
  text-align: center; color: var(--body-text-color-subdued); border: 1.5px dashed var(--border-color-primary);
  border-radius: 14px; padding: 24px; }
.empty h2 { font-size: 1.1rem; margin: 14px 0 4px; color: var(--body-text-color); }
#results.waiting { display: none !important; }
#viewer canvas { border-radius: 10px; outline-offset: 2px; }
#viewer { background: radial-gradient(circle at 50% 35%, #f8fafc, #e2e8f0); }
.dark #viewer { background: radial-gradient(circle at 50% 35%, #334155, #0f172a); }
.chips { gap: 8px !important; } .chips button { min-width: 72px !important; flex: 1 1 72px; }
#downloads { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 10px; }
#downloads > * { min-width: 0 !important; width: 100%; }
#strip, #strip .grid-wrap { height: auto !important; max-height: none !important; }
#progress, #note, #progress .html-container { padding: 0 !important; }
code.command { display: block; white-space: pre-wrap; word-break: break-word; font-size: .82rem; padding: 10px 12px;
  border-radius: 8px; background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
:focus-visible { outline: 2px solid #6366f1 !important; outline-offset: 2px; }
@media (max-width: 640px) {
  .hero h1 { font-size: 1.45rem; }
  .empty { min-height: 220px; }
  #result_tabs .tab-container button { padding: 0 7px !important; font-size: .84rem !important; }
  .gradio-container .column, .gradio-container .row, .gradio-container .block { min-width: 0 !important; }
  /* The gallery's columns are at least 100 pixels wide: five of them would widen the page. */
  #strip .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
}
@media (prefers-reduced-motion: reduce) { .card .bar div { transition: none; } }
"""

HEAD = """
<style>
/* Here and not with the other rules: Gradio scopes those to what lies inside of these two. */
@media (max-width: 640px) {
  .gradio-container.gradio-container { padding: 4px !important; }
  .gradio-container.gradio-container .main.app { padding: 8px !important; }
}
</style>
<script>
// Gradio leaves pictures and the viewer without a text for those who do not see them: the label becomes one.
function nameThings() {
  for (const block of document.querySelectorAll('.block')) {
    const label = block.querySelector('[data-testid="block-label"]');
    const name = label ? label.textContent.trim() : '';
    if (!name) continue;
    for (const image of block.querySelectorAll('img')) if (!image.alt) image.alt = name;
    for (const canvas of block.querySelectorAll('canvas')) if (!canvas.ariaLabel) canvas.ariaLabel = '3D view: ' + name;
    for (const button of block.querySelectorAll('button'))
      if (!button.ariaLabel && !button.title && !button.textContent.trim()) button.ariaLabel = name;
  }
}
let naming = 0;
function watch() {
  // At most ten times a second, however busy the page is; a timer that starts anew with every change may never end.
  new MutationObserver(() => {
    naming ||= setTimeout(() => { naming = 0; nameThings(); }, 100);
  }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['src', 'alt'] });
  nameThings();
}
if (document.readyState === 'complete') watch(); else addEventListener('load', watch);
</script>
"""

BALL_HTML = """
<div class="ball" role="group" aria-label="Direction of the light">
  <canvas width="320" height="320" tabindex="0" role="application"
    aria-label="Ball: drag the light over it, or move it with the arrow keys"></canvas>
</div>
"""
BALL_CSS = """
.ball { display: flex; justify-content: center; padding: 4px 0; }
canvas { width: 168px; height: 168px; border-radius: 50%; cursor: grab; touch-action: none; }
canvas:active { cursor: grabbing; }
"""
BALL_JS = """
const canvas = element.querySelector('canvas');
const context = canvas.getContext('2d');
const side = canvas.width, radius = side / 2 - 10;
let place = [0, 0];
const held = (x, y) => { const r = Math.hypot(x, y); return r > 0.97 ? [x / r * 0.97, y / r * 0.97] : [x, y]; };
function draw() {
  const [x, y] = place, z = Math.sqrt(Math.max(0, 1 - x * x - y * y));
  const image = context.createImageData(side, side);
  for (let j = 0; j < side; j++) for (let i = 0; i < side; i++) {
    const u = (i - side / 2) / radius, v = -(j - side / 2) / radius, rr = u * u + v * v;
    if (rr > 1.02) continue;
    const w = Math.sqrt(Math.max(0, 1 - rr));
    const lit = 0.16 + 0.84 * Math.max(0, u * x + v * y + w * z);
    const k = 4 * (j * side + i), edge = Math.min(1, Math.max(0, (1.02 - rr) * 60));
    image.data[k] = 236 * lit; image.data[k + 1] = 226 * lit; image.data[k + 2] = 214 * lit;
    image.data[k + 3] = 255 * edge;
  }
  context.putImageData(image, 0, 0);
  const cx = side / 2 + x * radius, cy = side / 2 - y * radius;
  context.beginPath(); context.arc(cx, cy, 15, 0, 7); context.fillStyle = '#fde047'; context.fill();
  context.lineWidth = 4; context.strokeStyle = '#ffffff'; context.stroke();
  context.lineWidth = 1.5; context.strokeStyle = '#92400e'; context.beginPath(); context.arc(cx, cy, 17.5, 0, 7);
  context.stroke();
}
let waiting = false;
function moved(x, y) {
  place = held(x, y); draw();
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    props.value = place.map(v => Math.round(v * 1000) / 1000);
    trigger('input');
  }, 40);
}
function at(event) {
  const box = canvas.getBoundingClientRect(), scale = side / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  moved((x - side / 2) / radius, (side / 2 - y) / radius);
}
canvas.addEventListener('pointerdown', e => { canvas.setPointerCapture(e.pointerId); at(e); });
canvas.addEventListener('pointermove', e => { if (e.buttons) at(e); });
canvas.addEventListener('keydown', e => {
  const step = { ArrowLeft: [-0.08, 0], ArrowRight: [0.08, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] }[e.key];
  if (step) { e.preventDefault(); moved(place[0] + step[0], place[1] + step[1]); }
});
watch('value', () => {
  const value = props.value;
  if (!Array.isArray(value) || Math.hypot(value[0] - place[0], value[1] - place[1]) < 1e-3) return;
  place = held(...value);
  draw();
});
if (Array.isArray(props.value)) place = held(...props.value);
draw();
"""


def theme() -> gr.themes.Base:
    """Indigo on slate. Gradio ships the fonts, so that no page asks another server for one; of this one, regular and
    bold are whole and the weights in between lack letters."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.fuchsia,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="linear-gradient(90deg, *primary_600, *primary_500)",
        button_primary_background_fill_hover="linear-gradient(90deg, *primary_700, *primary_600)",
        button_secondary_background_fill="*background_fill_primary",
        button_secondary_background_fill_hover="*background_fill_secondary",
        button_secondary_border_color="*border_color_primary",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_border_width="1px",
        button_large_text_weight="400",
        block_shadow="none",
        block_border_width="1px",
    )


def data_address(image: Image.Image) -> str:
    """A small picture as a data: address, so that a preview needs no file."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def progress_card(report: Report) -> str:
    """A report as HTML: what is done, how far, how long it still takes, and how it looks."""
    left = "" if report.left_s is None or report.state != "running" else f"about {in_words(report.left_s)} left"
    percent = round(100 * report.fraction)
    figures = "".join(
        f'<figure><img src="{data_address(picture)}" alt="Preview of the {html.escape(label)}">'
        f"<figcaption>{html.escape(label)}</figcaption></figure>"
        for label, picture in report.previews
    )
    bar = (
        f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>'
        if report.state in ("running", "loading", "waiting")
        else ""
    )
    return (
        f'<div class="card {report.state}" id="card" data-state="{report.state}">'
        f'<div class="line" role="status"><span>{html.escape(report.text)}</span><span>{left}</span></div>{bar}'
        + (f'<div class="looks">{figures}</div>' if figures else "")
        + "</div>"
    )


def command_box(command: str) -> str:
    return f'<code class="command">{html.escape(command)}</code>'

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
canvas.addEventListener('pointerdown', e => { e.preventDefault(); canvas.focus(); canvas.setPointerCapture(e.pointerId); at(e); });
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

// The value: {src, poster, yaw, pitch}; the angles, in degrees, say how far round there is something to see; null: all.
const viewer = element.querySelector('model-viewer'), status = element.querySelector('p');
const FIELD_OF_VIEW = 10, SWING_DEG = 24, SWING_MS = 9000, SWINGS = 6;
const root = (window.gradio_config?.root || '').replace(/\/$/, '');
let shown = '', front = '', begun = 0, still = matchMedia('(prefers-reduced-motion: reduce)').matches;

if (!document.getElementById('model-viewer-script')) {
  const script = document.createElement('script');
  Object.assign(script, { id: 'model-viewer-script', type: 'module', src: root + '/gan2shape/model-viewer.min.js' });
  document.head.append(script);
}

function look() {
  // Setting what is set already would change nothing, wherever the visitor has turned it since.
  viewer.cameraOrbit = viewer.getCameraOrbit().toString();
  viewer.cameraOrbit = front;
}

function frame() {
  const { yaw, pitch } = props.value, size = viewer.getDimensions(), half = FIELD_OF_VIEW / 2 * Math.PI / 180;
  const away = 0.54 * size.y / Math.tan(half) + size.z / 2;
  const orbit = (theta, phi, share) => `${theta} ${phi} ${(away * share).toFixed(4)}m`;
  const limited = yaw !== null;
  viewer.minCameraOrbit = orbit(limited ? -yaw + 'deg' : 'auto', 90 - pitch + 'deg', 0.5);
  viewer.maxCameraOrbit = orbit(limited ? yaw + 'deg' : 'auto', 90 + pitch + 'deg', 1.5);
  front = orbit('0deg', '90deg', 1);
}

function swing(now) {
  if (still || !viewer.isConnected) return;
  begun ||= now;
  const turns = (now - begun) / SWING_MS;
  if (turns > SWINGS) { look(); return; }
  if (viewer.offsetParent) {
    const theta = SWING_DEG * Math.sin(2 * Math.PI * turns);
    viewer.cameraOrbit = front.replace('0deg', theta.toFixed(2) + 'deg');
  }
  requestAnimationFrame(swing);
}

function show() {
  const value = props.value;
  if (!value || !value.src || value.src === shown) return;
  shown = value.src;
  if (value.poster && root + value.poster !== viewer.getAttribute('poster')) {  // somebody else's picture until the model is there
    viewer.setAttribute('poster', root + value.poster);
    viewer.showPoster?.();
  }
  status.textContent = '';
  viewer.setAttribute('alt', value.name);
  viewer.setAttribute('src', root + value.src);
}

viewer.addEventListener('load', () => {
  frame();
  look();
  viewer.jumpCameraToGoal();
  viewer.dismissPoster();
  const drawn = shown;
  requestAnimationFrame(() => requestAnimationFrame(() => { viewer.dataset.shown = drawn; }));
  if (!begun) requestAnimationFrame(swing);
});
viewer.addEventListener('error', () => {
  status.textContent = 'This browser cannot show the model here. Its file is under Take away.';
});
for (const kind of ['pointerdown', 'wheel', 'keydown'])
  viewer.addEventListener(kind, () => { still = true; }, { capture: true, passive: true });
element.querySelector('button').addEventListener('click', () => { still = true; look(); });
watch('value', show);
show();

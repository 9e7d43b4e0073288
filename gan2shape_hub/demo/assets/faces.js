const root = (window.gradio_config?.root || '').replace(/\/$/, '');
for (const image of element.querySelectorAll('img')) image.src = root + image.dataset.src;
const buttons = [...element.querySelectorAll('button')];
for (const button of buttons)
  button.addEventListener('click', () => {
    for (const other of buttons) other.ariaPressed = String(other === button);
    props.value = button.dataset.name;
    trigger('input');
    // Where the page is one column, the model is further down.
    if (innerWidth <= 768) document.getElementById('viewer')?.scrollIntoView({ behavior: 'smooth', block: 'center' });
  });

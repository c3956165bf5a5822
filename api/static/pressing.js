// What counts as one press of a button: neither what a held key repeats, nor the second click of a double click.

// The second and each further click at one place within the time that this machine calls a double click.
export const isDoubleClick = (event) => event.detail > 1;

// A form does what it is for once at a time: what is pressed until that is done is no further wish.
export function submitOnce(form, action) {
  const act = form.querySelector('[type=submit]');
  let isBusy = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    act.setAttribute('aria-disabled', 'true'); // not `disabled`: that would take the focus away
    try { await action(); } finally {
      isBusy = false;
      act.removeAttribute('aria-disabled');
    }
  });
}

// Shift+Enter starts a line.
export function drawOnEnter(field, draw) {
  field.addEventListener('keydown', (event) => {
    // Enter that ends an input method's composition is part of typing, not a wish to draw.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (!event.repeat) draw();
  });
}

// A held Enter repeats nothing but line ends.
export function ignoreHeldEnter() {
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && event.repeat && event.target.tagName !== 'TEXTAREA') event.preventDefault();
  });
}

// What counts as one press of a button: neither what a held key repeats, nor the second click of a double click.

// The second and each further click at one place within the time that this machine calls a double click.
export const isDoubleClick = (event) => event.detail > 1;

// A held Enter repeats nothing but line ends.
export function ignoreHeldEnter() {
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && event.repeat && event.target.tagName !== 'TEXTAREA') event.preventDefault();
  });
}

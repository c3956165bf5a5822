// Copying, also where a browser gives pages no clipboard: over plain http, unless it is on the own machine.
import { make } from './cards.js';

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyByHand(text);
  }
}

// The way that browsers have had for ever; the focus goes back to where it was. Throws where that fails, too.
function copyByHand(text) {
  const before = document.activeElement;
  const field = make('textarea', 'hidden-text');
  field.value = text;
  field.readOnly = true;
  (document.querySelector('dialog[open]') ?? document.body).append(field);
  field.select();
  const isCopied = document.execCommand('copy');
  field.remove();
  before?.focus();
  if (!isCopied) throw new Error('not copied');
}

// `png` is a promise of a picture's bytes: some browsers allow only what is begun at once. Throws what kept it from being
// copied; where the browser does not allow it there is no other way.
export async function copyPicture(png) {
  const blob = png.then((bytes) => new Blob([bytes], { type: 'image/png' }));
  blob.catch(() => {}); // told by `png`
  try {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
  } catch (denied) {
    await png;
    throw denied;
  }
}

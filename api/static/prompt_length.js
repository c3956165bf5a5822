// How long a prompt may be, counted as the service counts: an emoji is one character, where `maxlength` counts two.
import { language, say } from './words.js';

export const MOST = 4000;
const excess = (text) => Math.max(0, [...text].length - MOST);

// What is too much is said as long as it is there; nothing is cut off.
export function openLength(field, note) {
  function show() {
    const n = excess(field.value);
    const words = n ? say('tooLong', { n, most: new Intl.NumberFormat(language).format(MOST) }) : '';
    if (note.textContent !== words) note.textContent = words;
  }

  field.addEventListener('input', show);
  return { show, isTooLong: () => excess(field.value) > 0 };
}

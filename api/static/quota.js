// What is left of the day: its words, its meter, and how alarming it is, in the same way on every page.
import { language, say } from './words.js';

const LOW_SHARE = 0.2;
export const WORDS = { good: 'quota', low: 'quotaLow', none: 'quotaNone' };

export function showLeft({ box, meter, text, left, limit, words = WORDS }) {
  const level = left <= 0 ? 'none' : left <= limit * LOW_SHARE ? 'low' : 'good';
  const written = new Intl.NumberFormat(language);
  box.dataset.level = level;
  [meter.max, meter.value] = [Math.max(1, limit), left];
  text.textContent = say(words[level], { left: written.format(left), limit: written.format(limit) });
}

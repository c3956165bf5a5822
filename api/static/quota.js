// What is left of the day: its words, its meter, and how alarming it is, in the same way on every page.
import * as service from './service.js';
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

// In the bar; where the limit is far away there is nothing to show.
export async function refreshQuota() {
  const [use, $] = [await service.usage().catch(() => null), (id) => document.getElementById(id)];
  if (!use) return;
  const left = use.daily_remaining;
  $('quota').hidden = left > use.daily_limit * 0.5 && use.daily_limit >= 100000;
  showLeft({ box: $('quota'), meter: $('quota-meter'), text: $('quota-text'), left, limit: use.daily_limit });
}

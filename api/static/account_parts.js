// What the account page and the operator's page share: small parts, tables that keep the focus, a chart.
import { make } from './cards.js';
import { copyText } from './clipboard.js';
import { isDoubleClick } from './pressing.js';
import { toast } from './toast.js';
import { language, say } from './words.js';

export { toast };

export const $ = (id) => document.getElementById(id);
export const number = (value) => new Intl.NumberFormat(language).format(value);
export const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
export function when(seconds) {
  if (!seconds) return say('never');
  const moment = new Date(seconds * 1000);
  const year = moment.getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' };
  return moment.toLocaleString(language, { month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit', ...year });
}
export const whenEnds = (seconds) => (seconds ? when(seconds) : say('noEnd'));
export const day = (iso) => new Date(`${iso}T00:00:00Z`).toLocaleDateString(language, { month: 'short', day: 'numeric', timeZone: 'UTC' });

export const told = (problem) => (problem.status ? problem.message : say('notReached'));

// A button that is busy until what it does is done, and tells what went wrong.
export function button(words, action, { className = 'small', label } = {}) {
  const element = make('button', className, words);
  element.type = 'button';
  element.dataset.action = words;
  if (label) element.setAttribute('aria-label', label);
  element.addEventListener('click', async (event) => {
    if (isDoubleClick(event) || element.getAttribute('aria-disabled')) return; // not `disabled`: that would take the focus away
    element.setAttribute('aria-disabled', 'true');
    try { await action(); } catch (problem) { toast(told(problem)); }
    element.removeAttribute('aria-disabled');
  });
  return element;
}

export function cell(content, className) {
  const element = make('td', className);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}

// What a webhook's receiver answered; where it did not, why.
export function answerCell({ status, error }) {
  if (!status) return cell(error || say('noAnswer'), 'answer');
  return cell([String(status), ...(error ? [make('span', 'note', ` ${error}`)] : [])], 'answer');
}

// A name so long that it would leave no room for the rest of a row wraps.
const NAME_LONG = 24; // characters
const longClass = (text) => (text.length > NAME_LONG ? 'long' : '');

export const nameCell = (name) => cell(name, longClass(name));

export function rowHead(text, note) {
  const element = make('th', longClass(text));
  element.scope = 'row';
  element.append(make('bdi', '', text)); // what somebody wrote from right to left turns nothing beside it
  if (note) element.append(make('small', '', note));
  return element;
}

export function pill(state) {
  return make('span', `pill pill-${state}`, say(`state_${state}`));
}

// Children of `parent`, one for each item. Only those whose item changed are made anew, and the focus stays where it was.
export function keep(parent, items, keyOf, build) {
  const known = (parent.known ??= new Map());
  const present = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const seen = JSON.stringify([item, language]);
    present.add(key);
    let entry = known.get(key);
    if (!entry || entry.seen !== seen) {
      const fresh = nameCells(build(item), parent);
      if (entry) replaceKeepingFocus(entry.element, fresh);
      if (entry && entry.element === at) at = fresh;
      entry = { seen, element: fresh };
      known.set(key, entry);
    }
    if (entry.element === at) at = at.nextElementSibling;
    else parent.insertBefore(entry.element, at);
  }
  for (const [key, entry] of known) if (!present.has(key)) { entry.element.remove(); known.delete(key); }
}

// In a narrow place a row stands as lines, each with the name of its column (account.css).
function nameCells(row, body) {
  const heads = body.tagName === 'TBODY' ? body.parentElement.tHead?.rows[0].cells ?? [] : [];
  for (const [index, head] of [...heads].entries()) {
    if (index && !head.querySelector('.hidden-text')) row.cells[index].dataset.name = head.textContent;
  }
  return row;
}

// A table that has no room stands as lines, whatever a language makes of its width.
export function fitTables() {
  for (const place of document.querySelectorAll('.scroll')) {
    place.classList.remove('stacked');
    place.classList.toggle('stacked', place.scrollWidth > place.clientWidth);
  }
}

window.addEventListener('resize', fitTables);

function replaceKeepingFocus(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
  for (const [index, details] of old.querySelectorAll('details').entries()) {
    const twin = fresh.querySelectorAll('details')[index];
    if (twin) twin.open = details.open;
  }
  old.replaceWith(fresh);
  if (focused !== undefined) {
    const twin = [...fresh.querySelectorAll('[data-action]')].find((one) => one.dataset.action === focused);
    (twin ?? fresh.querySelector('button'))?.focus();
  }
}

function svg(tag, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const CHART = { height: 220, left: 44, bottom: 28, top: 12 };
const DAY_WIDTH = 84; // of a date, with room beside it

// Pictures by day as bars, with a scale; the same numbers stand in a table for who can not see it. `width` is that of its
// place, so that its words are as large as all others.
export function chart(days, width) {
  const { height, left, bottom, top } = CHART;
  const most = niceTop(Math.max(1, ...days.map((one) => one.used + one.reserved)));
  const step = (width - left) / days.length;
  const daysApart = step * 7 < DAY_WIDTH ? 14 : 7;
  const scale = (height - bottom - top) / most;
  const drawn = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'chart', 'aria-hidden': 'true', focusable: 'false' });
  for (const share of [0, 0.5, 1]) {
    const y = height - bottom - most * share * scale;
    drawn.append(svg('line', { x1: left, x2: width, y1: y, y2: y, class: 'chart-line' }), label(left - 8, y + 4, number(most * share), 'end'));
  }
  days.forEach((one, index) => {
    const x = left + index * step + step * 0.16;
    drawn.append(bar(x, step * 0.68, one.used, 0, scale, 'chart-bar', one), bar(x, step * 0.68, one.reserved, one.used, scale, 'chart-bar chart-reserved', one));
    if ((days.length - 1 - index) % daysApart === 0) drawn.append(dayLabel(x, step * 0.68, day(one.date), index === days.length - 1));
  });
  return drawn;
}

// The first and the last keep within the chart's ends, where other words would stand.
function dayLabel(x, width, text, isLast) {
  const y = CHART.height - 4;
  if (isLast) return label(x + width, y, text, 'end');
  return x < CHART.left + DAY_WIDTH / 2 ? label(CHART.left, y, text, 'start') : label(x + width / 2, y, text, 'middle');
}

function bar(x, width, units, from, scale, className, one) {
  const height = units * scale;
  const rect = svg('rect', { x, width, height, y: CHART.height - CHART.bottom - from * scale - height, rx: Math.min(3, height / 2), class: className });
  const title = svg('title', {});
  title.textContent = `${day(one.date)}: ${number(one.used)}`;
  rect.append(title);
  return rect;
}

function label(x, y, text, anchor) {
  const element = svg('text', { x, y, 'text-anchor': anchor, class: 'chart-text' });
  element.textContent = text;
  return element;
}

// 1, 2, 5, 10, 20, … above the highest bar, even, so that the middle line is a whole number.
function niceTop(most) {
  if (most <= 2) return 2;
  const size = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 6, 8, 10].map((one) => one * size).find((one) => one >= most && one % 2 === 0) ?? 10 * size;
}

export function spark(days) {
  const most = Math.max(1, ...days.map((one) => one.used));
  const drawn = svg('svg', { viewBox: `0 0 ${days.length * 4} 24`, class: 'spark', role: 'img', 'aria-label': say('inDays', { n: days.reduce((sum, one) => sum + one.used, 0) }) });
  days.forEach((one, index) => {
    const height = Math.max(one.used ? 2 : 0.6, (one.used / most) * 24);
    drawn.append(svg('rect', { x: index * 4, y: 24 - height, width: 3, height, class: one.used ? 'chart-bar' : 'chart-none' }));
  });
  return drawn;
}

// Secrets ------------------------------------------------------------------------------------------------------------

export async function copy(text) {
  try { await copyText(text); toast(say('keyCopied')); } catch { toast(say('notCopied')); }
}

const secrets = []; // the first is the one that is shown

// A key or a code that is shown this once: alone, and until it is put away on purpose.
export function showSecret(secret) {
  if (secrets.push(secret) === 1) showFirst();
}

function showFirst() {
  [$('secret').value = ''] = secrets;
  if (!secrets.length) return;
  $('secret-dialog').showModal();
  $('secret').select();
}

export function wireSecret() {
  $('secret-copy').addEventListener('click', () => copy($('secret').value));
  // The press that made the secret may go on: a second Enter, a second click.
  $('secret').addEventListener('keydown', (event) => { if (event.key === 'Enter') event.preventDefault(); });
  $('secret-dialog').addEventListener('click', (event) => { if (isDoubleClick(event)) event.preventDefault(); });
  $('secret-dialog').addEventListener('cancel', (event) => event.preventDefault()); // one Escape is no purpose: nobody can show it again
  $('secret-dialog').addEventListener('close', () => { secrets.shift(); showFirst(); });
}
